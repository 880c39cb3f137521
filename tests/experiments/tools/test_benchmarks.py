"""Benchmarks on tiny settings: what they count and parse is right, and their JSON has what it promises."""

import argparse
import json
import pathlib
import runpy
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import cpu_devices

from experiments.tools.benchmarks import __main__ as door
from experiments.tools.benchmarks import blobs, checkpoint, common, scaling, throughput
from experiments.tools.benchmarks.collectives import collectives, summary
from world_models.core.errors import UserError
from world_models.core.specs import VideoSpec
from world_models.core.types import ActionSpec, Clip
from world_models.data.stored_episodes import Episodes

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture
def run(monkeypatch, capsys):
    """A function that runs a benchmark as from the command line: (status, JSON of the last line, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(jax.config.jax_compilation_cache_dir))

    def run(*words):
        status = door.main(["benchmarks", *map(str, words)])
        out, err = capsys.readouterr()
        return status, json.loads(out.splitlines()[-1]) if out.strip() else None, out, err

    return run


TOOLS = [("experiments.tools.benchmarks", name) for name in door.BENCHMARKS]
TOOLS += [
    ("experiments.tools.weights",),
    ("experiments.tools.weights", "import"),
    ("experiments.tools.weights", "export"),
]
TOOLS += [("experiments.reports.results",), ("experiments.tables.job",), ("world_models.data.sources",)]


@pytest.mark.parametrize("words", TOOLS, ids=" ".join)
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_help_of_every_tool_says_what_each_flag_is_and_does_nothing(words, monkeypatch, capsys):
    made, original = [], argparse.ArgumentParser.__init__

    def remember(self, *args, **kwargs):
        original(self, *args, **kwargs)
        made.append(self)

    monkeypatch.setattr(argparse.ArgumentParser, "__init__", remember)
    monkeypatch.setattr(sys, "argv", [*words, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(words[0], run_name="__main__", alter_sys=False)
    assert ended.value.code == 0
    assert "--help" in capsys.readouterr().out
    for action in (action for parser in made for action in parser._actions):
        assert action.help or isinstance(action, argparse._SubParsersAction), action.dest


# What a GPU's compiler writes: asynchronous pairs, tuples, layouts with tiles, names that only look like collectives.
HLO = """
HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[8,2]{1,0})->f32[]}

%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %all-gather-start = (bf16[128,64]{1,0}, bf16[1024,64]{1,0}) all-gather-start(bf16[128,64]{1,0} %p), channel_id=1
  %all-gather-done = bf16[1024,64]{1,0:T(8,128)(2,1)} all-gather-done(%all-gather-start), metadata={op_name="f32[9] x"}
  %collective-permute-start = (f32[4]{0}, f32[4]{0}, u32[], u32[]) collective-permute-start(%p), channel_id=2
  collective-permute-done = f32[4]{0:S(1)} collective-permute-done(%collective-permute-start)
}

ENTRY %main {
  %all-gather-start.1 = ((f32[1,2], pred[2]), (f32[8,2], pred[16])) all-gather-start(%a, %b), dimensions={0}
  %all-gather-done.1 = (f32[8,2]{1,0}, /*index=1*/pred[16]{0}) all-gather-done(%all-gather-start.1)
  %all-reduce-start = f32[256]{0} all-reduce-start(%c), to_apply=%add
  %all-reduce-done = f32[256]{0} all-reduce-done(%all-reduce-start)
  %all-reduce.5 = (f32[], bf16[3]{0}) all-reduce(%d, %e), to_apply=%add, metadata={op_name="all-gather(f32[7])"}
  %get-tuple-element.2 = f32[] get-tuple-element(%all-reduce.5), index=0
  %all-gather-fusion = f32[99]{0} fusion(%all-gather-done.1), kind=kLoop, calls=%all-gather(f32[99])
  %reduce-scatter.1 = f8e4m3fn[64]{0} reduce-scatter(%f), dimensions={0}
  ROOT %all-to-all = (s4[3]{0}, s4[3]{0}) all-to-all(%g, %h), replica_groups={{0,1}}
}
"""


def test_collectives_of_a_text():
    assert collectives(HLO) == [
        ("all-gather", 1024 * 64 * 2),
        ("collective-permute", 16),
        ("all-gather", 64 + 16),
        ("all-reduce", 1024),
        ("all-reduce", 4 + 6),
        ("reduce-scatter", 64),
        ("all-to-all", 2 + 2),
    ]
    found = summary(collectives(HLO))
    assert found["all-gather"] == {"count": 2, "bytes": 131072 + 80, "largest": 131072}
    assert list(found) == ["all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute"]


PROGRAMS = """
    import json, sys
    import jax, jax.numpy as jnp
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    from experiments.tools.benchmarks.collectives import collectives

    mesh = jax.make_mesh((8,), ("a",), axis_types=(AxisType.Auto,))
    x = jax.ShapeDtypeStruct((16, 8), jnp.float32, sharding=NamedSharding(mesh, P("a")))

    def sent(function, outputs):
        program = jax.jit(function, out_shardings=NamedSharding(mesh, outputs)).lower(x).compile()
        return collectives(program.as_text())

    def by_device(function, outputs):
        return sent(jax.shard_map(function, mesh=mesh, in_specs=P("a"), out_specs=outputs, check_vma=False), outputs)

    ring = [(i, (i + 1) % 8) for i in range(8)]
    turn = lambda x: jax.lax.ppermute(x, "a", ring)
    print(json.dumps([
        sent(lambda x: 2 * x, P("a")),
        sent(lambda x: 2 * x, P()),
        by_device(lambda x: jax.lax.psum(x, "a"), P()),
        by_device(lambda x: jax.lax.psum_scatter(x.reshape(8, 2), "a", tiled=True), P("a")),
        by_device(lambda x: jax.lax.all_to_all(x.reshape(8, 2), "a", 0, 0), P("a")),
        by_device(lambda x: jax.lax.scan(lambda x, _: (turn(x) + 1, None), x, None, length=5)[0], P("a")),
    ]))
"""


def test_collectives_of_compiled_programs():
    command = [sys.executable, "-c", textwrap.dedent(PROGRAMS)]
    result = subprocess.run(command, env=cpu_devices(8), cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    none, gathered, summed, scattered, exchanged, turned = json.loads(result.stdout)
    assert none == []
    assert gathered == [["all-gather", 16 * 8 * 4]]
    assert summed == [["all-reduce", 2 * 8 * 4]]
    assert scattered == [["reduce-scatter", 2 * 4]]
    assert exchanged == [["all-to-all", 16 * 4]]
    assert turned == [["collective-permute", 2 * 8 * 4]]  # in a loop's body: once


def test_throughput(run, square_data, tmp_path, monkeypatch):
    ceiling = common.matmul_ceiling
    monkeypatch.setattr(common, "matmul_ceiling", lambda dtype: ceiling(dtype, sizes=(256,), repeats=2))
    words = ["configs/car_unet.py:debug", f"--config.data.dataset={square_data}", "--steps=3"]
    status, found, out, _ = run("throughput", *words, f"--output={tmp_path / 'found.json'}")
    assert status == 0
    assert json.loads((tmp_path / "found.json").read_text()) == found
    assert found["overrides"] == [f"--config.data.dataset={square_data}"]
    assert found["step_seconds_min"] <= found["step_seconds"] <= found["step_seconds_max"]
    assert found["frames_per_second"] == pytest.approx(4 * 5 / found["step_seconds"])
    assert found["model_flops_per_second"] == pytest.approx(found["model_flops_per_step"] / found["step_seconds"])
    assert found["mfu"] == pytest.approx(found["model_flops_per_second"] / found["matmul_flops_per_second"])
    assert 0 <= found["data_wait_share"] < 1
    assert found["compile_seconds"] > 0
    # Parameters, moments and average are on the device, and something else.
    assert found["peak_bytes_per_device"] > 4 * 4 * found["parameters"]
    assert "--steps=3" in found["provenance"]["command"]
    for word in ("MFU", "frames/s", "peak memory", "compile", "waiting for data"):
        assert word in out


def test_model_flops_do_not_depend_on_how_the_model_is_computed():
    spec = VideoSpec((16, 16, 3), ActionSpec("discrete", 2))
    flag = jax.ShapeDtypeStruct((4, 5), jnp.bool_)
    frames = jax.ShapeDtypeStruct((4, 5, 16, 16, 3), jnp.uint8)
    numbers = jax.ShapeDtypeStruct((4, 5), jnp.int32)
    clip = Clip(frames, numbers, numbers, flag, flag, flag)
    config = common.load_config("configs/car_dit.py:debug", [])
    flops = throughput.model_flops(config, spec, clip)
    config.runtime.compute.update({"remat": "full", "attention": "cudnn", "ops": "cpu"})
    assert throughput.model_flops(config, spec, clip) == flops
    assert config.runtime.compute.remat == "full"
    # 16 tokens of 5 x 3 x 16 folded numbers; 2 blocks of width 16; conditions of 16 once an example.
    tokens, width = 16, 16
    per_token = 2 * (12 * width**2 + 2 * tokens * width) + width * 48
    per_example = 2 * 6 * width**2 + 2 * width**2 + 2 * width**2
    forward = 2 * 4 * (tokens * (per_token + 240 * width) + per_example)
    assert flops == pytest.approx(3 * forward - 2 * 4 * tokens * 240 * width, rel=0.01)  # pixels need no gradient


def test_scaling(run, square_data):
    words = ["configs/car_dit.py:debug", f"--config.data.dataset={square_data}", "--config.model.network.depth=4"]
    status, found, out, err = run("scaling", *words, "--devices=1,2", "--mesh=data,fsdp", "--steps=1", "--pairs=3")
    assert status == 0, err
    one, data, fsdp = found["rows"]
    assert [row["mesh"] for row in found["rows"]] == [[1, 1, 1], [2, 1, 1], [1, 2, 1]]
    assert one["state_bytes_per_device"] == data["state_bytes_per_device"] == one["state_bytes"]
    assert fsdp["state_bytes_per_device"] == pytest.approx(fsdp["state_bytes"] / 2, rel=0.1)
    assert one["collectives"] == {}
    assert set(data["collectives"]) == {"all-reduce"}
    assert {"all-gather", "all-reduce"} <= set(fsdp["collectives"])
    assert 0 < fsdp["largest_gather_share"] < 0.5
    assert len(one["losses"]) == 3
    assert max(row["loss_difference"] for row in found["rows"]) < 1e-5
    overhead = found["overhead"]
    assert overhead["interval"][0] <= overhead["overhead"] <= overhead["interval"][1]
    assert "overhead" in out


def test_scaling_shows_a_mesh_that_raises_an_error_and_a_loss_that_differs(tiny_config):
    tiny_config.train.batch_size = 3
    tiny_config.train.accumulate = 2
    found = scaling.measure_here(tiny_config, scaling.NAMES, 1, 1)
    (row,) = found["rows"]
    assert "config.train.batch_size=3 must be a multiple of" in row["refused"]
    assert "refused: config.train" in scaling.table(found)
    rows = [{"losses": [2.0, 4.0]}, row, {"losses": [2.0, 5.0]}]
    scaling._compare(rows)
    assert [row.get("loss_difference") for row in rows] == [0, None, 0.25]


def test_meshes_use_all_devices():
    assert scaling.meshes(1, scaling.NAMES) == {"one": (1, 1, 1)}
    assert scaling.meshes(2, scaling.NAMES) == {"data": (2, 1, 1), "fsdp": (1, 2, 1), "tensor": (1, 1, 2)}
    assert scaling.meshes(8, ("fsdp", "mixed")) == {"fsdp": (1, 8, 1), "mixed": (2, 2, 2)}


def test_checkpoint(run, tmp_path):
    status, found, out, _ = run("checkpoint", "--mib=4", "--saves=2", f"--folder={tmp_path}")
    assert status == 0
    assert list(tmp_path.iterdir()) == []
    assert found["bytes"] == 4 * 2**20
    assert 0 < found["blocked_seconds"] <= found["held_seconds"]
    assert found["blocked_seconds"] < found["save_seconds"]
    assert found["blocked_share"] == pytest.approx(found["blocked_seconds"] / found["save_seconds"])
    assert found["save_bytes_per_second"] == pytest.approx(found["bytes"] / found["save_seconds"])
    for name in ("restore", "disk_write", "disk_read"):
        assert found[f"{name}_bytes_per_second"] > 0
    assert found["step_seconds_while_saving"] > 0
    assert "of the save" in out


def test_what_a_save_hides_in_the_next_step_counts_as_held_up(tmp_path, monkeypatch):
    delay = []

    class Slow(checkpoint.Loop):
        def run(self):
            return super().run() + (delay.pop() if delay else 0)

    class Saver(checkpoint.Checkpoints):
        def save(self, *args):
            super().save(*args)
            delay.append(5.0)

    monkeypatch.setattr(checkpoint, "Loop", Slow)
    monkeypatch.setattr(checkpoint, "Checkpoints", Saver)
    found = checkpoint.measure(tmp_path, 1, 2)
    assert found["blocked_seconds"] < 4 < found["held_seconds"]


def test_pipeline(run, tmp_path):
    words = ["--sizes=16,24", "--clips=3", "--threads=1", "--seconds=0.05", "--episodes=2"]
    status, found, out, _ = run("pipeline", *words)
    assert status == 0
    assert [(row["size"], row["from"]) for row in found["rows"]] == [
        ("16x16", "memory"),
        ("16x16", "disk"),
        ("24x24", "memory"),
        ("24x24", "disk"),
    ]
    assert all(row["frames_per_second"] > 0 and row["clip"] == 3 for row in found["rows"])
    assert "24x24" in out


def test_record(run):
    overrides = ["--config.record.environment=Toy-v0", "--config.record.policy=random", "--config.record.skip_steps=0"]
    overrides += [
        "--config.record.environment_kwargs={'length': 7}",
        "--config.record.modules=('tests.toy_environment',)",
    ]
    status, found, _, err = run("record", "--config=configs/car_unet.py:debug", "--episodes=2", *overrides)
    assert status == 0, err
    assert found["environment"] == "Toy-v0"
    assert found["time_ratio"] > 0


def test_blobs_have_the_frames_and_actions_of_the_config(tiny_config, tmp_path, capsys):
    config = tiny_config
    given = config.data.dataset
    blobs.for_config(config, tmp_path / "given")
    assert config.data.dataset == given
    assert capsys.readouterr().err == ""

    config.data.dataset, config.data.image_size = "", (16, 24)
    config.record.update({"environment": "Toy-v0", "modules": ("tests.toy_environment",)})
    config.record.environment_kwargs = {"space": "box"}
    config.record.policy = "random"
    blobs.for_config(config, tmp_path / "made")
    assert "config.data.dataset is empty: using generated blobs, 16x24, with its actions" in capsys.readouterr().err
    for split in ("train", "validation", "test"):
        spec = Episodes(config.data.dataset, split).spec
        assert spec.frame_shape == (16, 24, 3)
        assert spec.actions.kind == "continuous"
        assert spec.actions.size == 2
    episodes = Episodes(config.data.dataset, "train")
    frames = episodes.read(0, 0, 9)["frames"]
    assert np.any(frames[0] != frames[8])

    config.data.dataset, config.data.num_actions = "", 7
    config.record.modules = ("not_installed",)
    blobs.for_config(config, tmp_path / "other")
    assert "with 7 discrete actions, since its source cannot be opened" in capsys.readouterr().err
    assert Episodes(config.data.dataset, "train").spec.actions.size == 7


def test_the_entry_point_says_what_is_wrong(run):
    status, _, _, err = run("throughputs")
    assert status == 2
    for name in door.BENCHMARKS:
        assert name in err
        assert (ROOT / "experiments" / "tools" / "benchmarks" / f"{name}.py").exists()
    status, _, out, err = run("throughput", "configs/car_unet.py", "--config.train.nothing=3")
    assert (status, out) == (1, "")
    assert "nothing" in err
    status, _, _, err = run("throughput", "configs/car_unet.py", "--stepps=3")
    assert "'--stepps=3' is no flag" in err
    status, _, _, err = run("scaling", "configs/nowhere.py")
    assert "configs/nowhere.py is no file" in err
    status, _, _, err = run("scaling", "configs/car_unet.py", "--mesh=rows")
    assert "--mesh=rows must be some of data, fsdp" in err


def test_configs_with_overrides():
    config = common.load_config("configs/car_unet.py:debug", ["--config.seed=5", "--config.runtime.mesh=(1, 1, -1)"])
    assert (config.seed, tuple(config.runtime.mesh), config.train.num_steps) == (5, (1, 1, -1), 2)
    with pytest.raises(UserError, match="'loose' is no flag"):
        common.load_config("configs/car_unet.py", ["loose"])
