"""The same training on any mesh: eight pretended devices against one."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from conftest import cpu_devices

SCRIPT = """
    import dataclasses, json, pathlib, sys
    import jax, numpy as np
    from ml_collections import ConfigDict
    from experiments.tools.benchmarks.collectives import collectives
    from experiments.training.data import open_episodes
    from experiments.training.experiment import make_experiment
    from experiments.training.setup import prepare
    from experiments.training.state import create_state
    from world_models.core import sharding as parallel

    name, meshes, data, folder = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], pathlib.Path(sys.argv[4])
    module = __import__(f"configs.{name}", fromlist=["get_config"])
    found = []
    for mesh in meshes:
        config = module.get_config("debug")
        config.data.dataset, config.train.batch_size, config.runtime.mesh = data, 8, tuple(mesh)
        config.train.optimizer.eps = 1e-3  # at 1e-8 Adam's first steps would amplify rounding
        if name == "car_dit":
            config.model.network.update({"width": 32, "depth": 4, "heads": 4})
        if name == "emoji_pretext":
            config.model.encoder.update({"width": 64, "depth": 2, "heads": 4})
        if name == "moving_pretext":
            config.model.encoder.channels, config.eval.tracking.num_clips = (16, 32, 32), 0
        run = prepare(config, folder / "-".join(map(str, mesh)))
        state, losses = run.state, []
        # The moments and the average lie where their parameters lie.
        for tree in (state.ema, state.optimizer[1][0].mu, state.optimizer[1][0].nu):
            assert jax.tree.map(lambda x: x.sharding, tree) == jax.tree.map(lambda x: x.sharding, state.params)
        whole, held = parallel.state_bytes(state)
        mesh = parallel.make_mesh(mesh)
        # At the size that people train: small buffers of a fixed size weigh as much as a debug model's parameters.
        full, spec = module.get_config(), open_episodes(config, folder, "train").spec
        spec = dataclasses.replace(spec, frame_shape=(32, 32, 3))
        full.runtime.compute.attention = "xla"
        init, shapes, *_ = create_state(make_experiment(full, spec), full, mesh)
        born, share = init.lower().compile().memory_analysis(), parallel.state_bytes(shapes)[1]
        for _ in range(3):
            batch, _ = next(run.batches)
            state, metrics = run.step(state, batch, run.stop_flags[False])
            losses.append(float(metrics["loss"]))
        params = np.concatenate([np.asarray(x).ravel() for x in jax.tree.leaves(state.params)])
        kinds = [(kind, size) for kind, size in collectives(run.step.as_text())]
        found.append({
            "losses": losses,
            "norm": float(np.linalg.norm(params)),
            "some": params[:: len(params) // 50].tolist(),
            "held": held / whole,
            "born": (born.output_size_in_bytes + born.temp_size_in_bytes) / share,
            "kinds": sorted({kind for kind, _ in kinds}),
            "gather": max([size for kind, size in kinds if kind == "all-gather"], default=0) / (4 * params.size),
        })
    print(json.dumps(found))
"""


def trained(name, meshes, data, folder, devices):
    """What three steps on each mesh came to, in a process of its own with so many devices."""
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), name, json.dumps(meshes), str(data), str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, env=cpu_devices(devices), timeout=280)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("name", "meshes"),
    [
        ("car_dit", [(1, 8, 1), (2, 2, 2)]),
        pytest.param("car_dit", [(8, 1, 1), (2, 1, 4), (1, 2, 4), (4, 2, 1)], marks=pytest.mark.slow),
        pytest.param("car_unet", [(8, 1, 1), (1, 8, 1), (2, 4, 1)], marks=pytest.mark.slow),
        pytest.param("moving_pretext", [(8, 1, 1), (1, 8, 1), (2, 4, 1)], marks=pytest.mark.slow),
        pytest.param("emoji_pretext", [(8, 1, 1), (1, 8, 1), (2, 2, 2)], marks=pytest.mark.slow),
    ],
    ids=["transformer", "transformer on more meshes", "unet", "order of frames", "colorization"],
)
def test_training_on_a_mesh_equals_one_device(name, meshes, square_data, tmp_path):
    (single,) = trained(name, [(1, 1, 1)], square_data, tmp_path / "one", 1)
    assert single["kinds"] == []
    for mesh, found in zip(meshes, trained(name, meshes, square_data, tmp_path / "eight", 8), strict=True):
        np.testing.assert_allclose(found["losses"], single["losses"], rtol=1e-5, err_msg=str(mesh))
        np.testing.assert_allclose(found["some"], single["some"], atol=1e-5, err_msg=str(mesh))
        _, fsdp, tensor = mesh
        assert found["held"] <= 1.1 / fsdp if tensor == 1 else found["held"] < 0.9 / fsdp, mesh
        assert found["born"] < 1.4, mesh  # not even while it is made does a device hold the whole
        assert ("all-gather" in found["kinds"]) == (fsdp > 1), mesh
        assert "all-reduce" in found["kinds"] or "reduce-scatter" in found["kinds"], mesh
        # Parameters are gathered a layer at a time, never all at once.
        assert found["gather"] < 0.3, mesh
