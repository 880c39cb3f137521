"""What all diffusion processes share: arrays of any rank, and a noise level an example or a frame."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_models.diffusion.ddpm import DDPM
from world_models.diffusion.edm import EDM
from world_models.diffusion.flow import Flow
from world_models.diffusion.process import expand_to_rank, sample_noise

PROCESSES = pytest.mark.parametrize(
    "process",
    [
        EDM(),
        DDPM(num_levels=100),
        DDPM(num_levels=100, prediction="velocity", schedule="cosine"),
        DDPM(num_levels=100, prediction="clean", schedule="sigmoid"),
        Flow(),
        Flow(prediction="velocity"),
    ],
    ids=["edm", "ddpm", "ddpm_velocity", "ddpm_clean", "flow", "flow_velocity"],
)


def _keys(*shape):
    return jax.random.split(jax.random.key(0), shape)


def _clean(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@PROCESSES
@pytest.mark.parametrize("shape", [(4, 6), (4, 5, 6), (4, 8, 8, 3), (4, 2, 8, 8, 3)], ids=lambda shape: len(shape))
def test_any_rank(process, shape):
    clean = _clean(*shape)
    noised = process.add_noise(clean, _keys(4))
    assert noised.noisy.shape == noised.target.shape == shape
    assert noised.level.shape == (4,)
    inputs, level = process.network_input(noised.noisy, noised.level)
    assert (inputs.shape, level.shape) == (shape, (4,))
    np.testing.assert_allclose(process.denoised(noised.noisy, noised.target, noised.level), clean, atol=2e-3)
    assert process.sample(lambda x, level: 0 * x, jax.random.key(1), shape).shape == shape


@PROCESSES
def test_axes_in_the_middle_may_be_merged(process):
    """Noise is a flat draw per example, so that a process does not depend on how the middle axes are arranged."""
    clean = _clean(4, 2, 3, 5, 6)
    whole = process.add_noise(clean, _keys(4))
    flat = process.add_noise(clean.reshape(4, 30, 6), _keys(4))
    np.testing.assert_array_equal(whole.level, flat.level)
    np.testing.assert_allclose(whole.noisy.reshape(4, 30, 6), flat.noisy, rtol=1e-6, atol=1e-6)


@PROCESSES
def test_a_level_per_frame_equals_separate_calls(process):
    clean, keys = _clean(4, 3, 8, 8, 2), _keys(4, 3)
    together = process.add_noise(clean, keys)
    assert together.level.shape == (4, 3)
    assert len(np.unique(together.level)) > 6
    inputs = process.network_input(together.noisy, together.level)
    denoised = process.denoised(together.noisy, together.target, together.level)
    for t in range(3):
        alone = process.add_noise(clean[:, t], keys[:, t])
        own_inputs = process.network_input(alone.noisy, alone.level)
        own = process.denoised(alone.noisy, alone.target, alone.level)
        found = jax.tree.map(lambda x, t=t: x[:, t], (together, inputs, denoised))
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves((alone, own_inputs, own)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_the_noise_of_frames_is_what_it_was():
    """The formula for [batch, height, width, channel] that runs of earlier versions were trained with."""
    clean, keys, process = _clean(3, 4, 5, 2), _keys(3), EDM()
    found = process.add_noise(clean, keys)
    for i in range(3):
        level, channels, values = jax.random.split(keys[i], 3)
        sigma = jnp.clip(jnp.exp(-0.4 + 1.2 * jax.random.normal(level)), 2e-3, 20)
        offset, noise = jax.random.normal(channels, (1, 1, 2)), jax.random.normal(values, (4, 5, 2))
        np.testing.assert_allclose(found.noisy[i], clean[i] + 0.3 * offset + sigma * noise, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(found.level[i], sigma, rtol=1e-6)


def test_offset_noise_is_shared_by_all_positions_of_a_channel():
    _, offset, noise = sample_noise(_keys(4, 3), (4, 3, 8, 8, 2))
    assert offset.shape == (4, 3, 1, 1, 2)
    assert len(np.unique(offset)) == 24
    assert noise.shape == (4, 3, 8, 8, 2)


def test_invalid_shapes_raise():
    with pytest.raises(ValueError, match=r"keys\.shape"):
        sample_noise(_keys(4), (3, 8))
    with pytest.raises(ValueError, match=r"keys\.shape"):
        sample_noise(_keys(4), (4,))
    assert expand_to_rank(np.zeros((4, 3)), 5).shape == (4, 3, 1, 1, 1)
