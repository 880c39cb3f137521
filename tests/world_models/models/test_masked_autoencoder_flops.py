"""Counted work of masked autoencoders against the papers' numbers; shapes only, nothing is computed."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from world_models.core.flops import count_flops
from world_models.models.masked_autoencoder.model import MaskedAutoencoder
from world_models.models.masked_autoencoder.options import MaskedAutoencoderOptions
from world_models.nn.options import TransformerOptions
from world_models.nn.transformer import Transformer


def forward(encoder, decoder, shape, *, dense, **options):
    """FLOPs of the loss of one clip, forward; with `dense` the encoder is given mask tokens too."""
    options = MaskedAutoencoderOptions(
        TransformerOptions(*encoder), TransformerOptions(*decoder), encode_mask_tokens=dense, **options
    )
    model = nnx.eval_shape(lambda: MaskedAutoencoder(options, shape, rngs=nnx.Rngs(0)))
    graphdef, params = nnx.split(model)
    frames = jax.ShapeDtypeStruct((1, *shape), jnp.uint8)
    places = jax.ShapeDtypeStruct((1, model.num_patches), jnp.int32)
    return count_flops(lambda p, f, where: nnx.merge(graphdef, p).loss_of(f, where), params, frames, places)


def both(*args, **options):
    return forward(*args, dense=True, **options), forward(*args, dense=False, **options)


def block(width, tokens):
    """Multiply-adds of one block: 4 + 8 products of a token with width x width, 2 of tokens x tokens with width."""
    return 12 * width**2 * tokens + 2 * tokens**2 * width


@pytest.mark.parametrize(("width", "depth", "heads", "tokens"), [(64, 3, 4, 17), (1024, 24, 16, 197)])
def test_blocks_equal_the_closed_form(width, depth, heads, tokens):
    blocks = nnx.eval_shape(lambda: Transformer(TransformerOptions(width, depth, heads), rngs=nnx.Rngs(0)))
    graphdef, params = nnx.split(blocks)
    x = jax.ShapeDtypeStruct((1, tokens, width), jnp.float32)
    assert count_flops(lambda p, x: nnx.merge(graphdef, p)(x), params, x) == 2 * depth * block(width, tokens)


def test_the_image_model_equals_the_closed_form():
    embed, into, head = 48 * 192, 192 * 96, 96 * 48
    visible = 12 * embed + 4 * block(192, 13) + 13 * into + 2 * block(96, 50) + 37 * head
    everything = 49 * embed + 4 * block(192, 50) + 50 * into + 2 * block(96, 50) + 37 * head
    found = both((192, 4, 3), (96, 2, 3), (1, 28, 28, 3), patch=4)
    assert found == (2 * everything, 2 * visible)


def test_masking_saves_two_thirds_of_the_flops():
    """ViT-L/16 with a decoder of 8 blocks: He et al. 2021, table 1c, 3.3x."""
    dense, sparse = both((1024, 24, 16), (512, 8, 16), (1, 224, 224, 3), patch=16, mask_ratio=0.75)
    assert 3.2 < dense / sparse < 3.4


def test_spacetime_mae_equals_the_papers_number():
    """ViT-L, 16 frames, 90 % removed: Feichtenhofer et al. 2022, table 1: 627.5 and 81.0 G multiply-adds, 7.7x.

    Their model embeds every patch before it removes some, and their numbers leave out the last linear map, from which
    ours predicts both frames of a tubelet, of removed patches only. What is counted of ours is less when sparse.
    """
    clips = {"tubelet": 2, "masking": "random", "mask_ratio": 0.9, "positions": "separable"}
    counted = both((1024, 24, 16), (512, 4, 16), (16, 224, 224, 3), patch=16, **clips)
    removed, pixels = 1568 - 156, 2 * 16 * 16 * 3
    head, embedding = 2 * removed * pixels * 512, 2 * removed * pixels * 1024
    dense, sparse = counted[0] - head, counted[1] - head + embedding
    assert dense / 2e9 == pytest.approx(627.5, rel=0.001)
    assert sparse / 2e9 == pytest.approx(81.0, rel=0.001)
    assert dense / sparse == pytest.approx(627.5 / 81.0, rel=0.001)
    assert counted[0] / counted[1] > dense / sparse


def test_masking_saves_as_much_in_a_small_encoder_on_small_images():
    dense, sparse = both((192, 12, 3), (96, 2, 3), (1, 28, 28, 1), patch=4)
    assert dense / sparse == pytest.approx(3.5, abs=0.1)
