"""The documentation's example of a new family is run as it stands."""

import pathlib
import re
import sys
import types

import pytest

import experiments
from experiments.evaluation import futures
from experiments.training.loop import train
from world_models.core.errors import ConfigError

PAGE = pathlib.Path(__file__).resolve().parents[3] / "docs" / "new_family.md"


def test_the_page_on_new_families_works_through_every_command(tiny_config, tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    module = types.ModuleType("my_lab.brightness")
    exec(compile(code, str(PAGE), "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "my_lab.brightness", module)
    tiny_config.experiment = "my_lab.brightness"
    train(tiny_config, tmp_path)
    with pytest.raises(ConfigError) as error:  # the copy of the config in the folder alone may not have it imported
        experiments.load(tmp_path)
    assert error.value.field == "config.experiment"
    run = experiments.load(tmp_path, trusted=["my_lab"])
    assert run.model.change.embedding.shape == (2, 1)
    assert futures.write(run).exists()
