"""Options from config blocks: coercion, defaults, and errors that name the field."""

import dataclasses
import json
import pathlib
import pickle
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from world_models.core.errors import ConfigError, config_error
from world_models.core.options import OneOf, from_dict, to_dict


@dataclasses.dataclass(frozen=True)
class Inner:
    size: int
    scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner
    shape: tuple[int, ...] = (1, 2)
    pair: tuple[int, str] = (1, "a")
    std: float | tuple[float, ...] = 1.0
    hidden: int = dataclasses.field(default=3, metadata={"config": False})


@dataclasses.dataclass(frozen=True)
class Other:
    name: str = "x"


SCHEMA = OneOf("kind", {"outer": Outer, "other": Other})


def test_options_round_trip_through_a_config():
    options = Outer(Inner(3, 2.0), (4,), (5, "b"), (0.5, 1.0))
    block = to_dict(options, SCHEMA)
    assert block["kind"] == "outer"
    assert "hidden" not in block
    assert block["inner"] == {"size": 3, "scale": 2.0}
    assert from_dict(SCHEMA, block, "config.block") == options
    assert from_dict(SCHEMA, {"kind": "other"}, "config.block") == Other()


def test_blocks_may_be_absent():
    @dataclasses.dataclass(frozen=True)
    class Maybe:
        block: Any = dataclasses.field(default=None, metadata={"schema": SCHEMA})

    assert to_dict(Maybe()) == {"block": None}
    for options in (Maybe(), Maybe(Other())):
        assert from_dict(Maybe, json.loads(json.dumps(to_dict(options))), "config") == options


def test_lists_become_tuples_and_whole_numbers_floats():
    found = from_dict(Outer, {"inner": {"size": 3, "scale": 2}, "shape": [4], "std": [1, 2]}, "config.block")
    assert found == Outer(Inner(3, 2.0), (4,), std=(1.0, 2.0))
    assert isinstance(found.inner.scale, float)
    assert from_dict(Outer, {"inner": {"size": 1}, "std": 2}, "config.block").std == 2.0


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"kind": "nothing"}, "config.block.kind"),
        ({}, "config.block.kind"),
        ({"kind": "outer"}, "config.block.inner"),
        ({"kind": "outer", "inner": {"size": 1, "scal": 1.0}}, "config.block.inner.scal"),
        ({"kind": "outer", "inner": {"size": 1.5}}, "config.block.inner.size"),
        ({"kind": "outer", "inner": {"size": True}}, "config.block.inner.size"),
        ({"kind": "outer", "inner": {"size": 1}, "shape": 3}, "config.block.shape"),
        ({"kind": "outer", "inner": {"size": 1}, "shape": ["a"]}, "config.block.shape[0]"),
        ({"kind": "outer", "inner": {"size": 1}, "pair": (1,)}, "config.block.pair"),
        ({"kind": "outer", "inner": {"size": 1}, "hidden": 4}, "config.block.hidden"),
        ({"kind": "other", "name": 1}, "config.block.name"),
    ],
)
def test_errors_name_the_field(values, field):
    with pytest.raises(ConfigError) as caught:
        from_dict(SCHEMA, values, "config.block")
    assert caught.value.field == field
    assert field.rsplit(".", 1)[0] in str(caught.value)


def test_option_modules_do_not_import_jax():
    script = """
        import pathlib, importlib, sys
        for path in pathlib.Path().glob("[we]*s/**/options.py"):
            importlib.import_module(".".join(path.with_suffix("").parts))
        assert "jax" not in sys.modules, [m for m in sys.modules if m.startswith("flax")]
    """
    root = pathlib.Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=root, check=True)


def test_config_errors_pass_between_processes():
    error = pickle.loads(pickle.dumps(config_error("config.a.b", 3, "be at least 4")))
    assert (type(error), error.field) == (ConfigError, "config.a.b")
    assert "config.a.b=3" in str(error)
