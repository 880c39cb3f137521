"""Small masked autoencoders all of whose parameters are noise, for tests of weight files."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from world_models.models.masked_autoencoder.model import MaskedAutoencoder
from world_models.models.masked_autoencoder.options import MaskedAutoencoderOptions
from world_models.nn.options import PixelOptions, TransformerOptions

REASON = "pip install torch transformers to compare with Hugging Face's models"
CLIP = (4, 16, 16, 3)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which Hugging Face's VideoMAE knows by heart
IMAGE = MaskedAutoencoderOptions(
    TransformerOptions(width=32, depth=2, heads=4),
    TransformerOptions(width=24, depth=3, heads=3),
    patch=4,
    pixels=PixelOptions(MEAN, STD),
)
VIDEO = dataclasses.replace(
    IMAGE,
    tubelet=2,
    masking="tube",
    mask_ratio=0.7,
    target="channel_normalized",
    class_token=False,
    positions="line",
    decoder_input_bias=False,
)


def build(options=IMAGE, shape=(1, 16, 16, 3), seed=0):
    """A model all of whose parameters are noise, so that none can be taken for another."""
    model = nnx.eval_shape(lambda: MaskedAutoencoder(options, shape, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(seed)
    noise = lambda x: jnp.asarray(rng.normal(0, 0.2, x.shape).astype(np.float32))
    nnx.update(model, jax.tree.map(noise, nnx.as_pure(nnx.state(model, nnx.Param))))
    return model


def params_of(model):
    return nnx.as_pure(nnx.state(model, nnx.Param))


def assert_same_params(found, wanted, kind):
    found, wanted = dict(nnx.to_flat_state(found)), dict(nnx.to_flat_state(wanted))
    assert set(found) == set(wanted)
    for path, x in found.items():
        expected = np.array(wanted[path])
        if kind == "videomae" and path[-2:] == ("qkv", "bias"):
            assert np.any(expected[:, 1])
            expected[:, 1] = 0  # keys have no bias there
        np.testing.assert_array_equal(x, expected, err_msg=str(path))
