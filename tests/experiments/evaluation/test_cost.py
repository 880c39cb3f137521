"""What video models cost: counts that follow batch, steps and denoising steps."""

import jax
import pytest
from flax import nnx

from configs import car_unet, car_world
from experiments.training.data import open_windows
from experiments.training.experiment import experiment_class, make_experiment


@pytest.mark.parametrize("module", [car_world, car_unet])
def test_cost_is_counted_of_what_is_trained_and_of_a_frame(module, square_data, tmp_path):
    def counted(batch_size=4, num_steps=4):
        config = module.get_config("debug")
        config.data.dataset = str(square_data)
        config.train.batch_size, config.eval.sampler.num_steps, config.eval.cost = batch_size, num_steps, True
        spec = experiment_class(config).open_data(config, tmp_path, "train").spec
        experiment = make_experiment(config, spec)
        open_split = lambda split, length, field: open_windows(config, tmp_path, split, length, 1, field=field)
        cost = experiment.future_measures(open_split, "test")["cost"]
        model = nnx.eval_shape(lambda: experiment.init(nnx.Rngs(0)))
        return cost.measure(model), sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))

    found, parameters = counted()
    assert found["parameters"] == parameters
    assert found["training_flops"] == 2 * found["step_flops"] > 0
    assert found["encode_flops"] == 0  # pixels
    assert counted(batch_size=8)[0]["step_flops"] == 2 * found["step_flops"]
    one, two = (counted(num_steps=n)[0]["frame_flops"] for n in (1, 2))
    assert two > one
    assert found["frame_flops"] - two == 2 * (two - one)
