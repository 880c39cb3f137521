"""Our steps of the benchmark `mae`."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.runs import runtime
from experiments.tools.benchmarks.jax_step import ceiling, training
from experiments.tools.benchmarks.mae_sizes import SIZES, Size, images
from experiments.tools.benchmarks.steps import Step
from experiments.training import state
from world_models.models.masked_autoencoder import targets
from world_models.models.masked_autoencoder.model import MaskedAutoencoder
from world_models.models.masked_autoencoder.options import MaskedAutoencoderOptions
from world_models.nn.options import ComputeOptions, TransformerOptions
from world_models.nn.patches import patchify


@dataclasses.dataclass(frozen=True)
class Setup:
    """The model and batch of all steps."""

    size: Size
    batch: int
    dtype: str
    unroll: bool

    def frames(self) -> np.ndarray:
        """uint8 [batch, 1, height, width, channel]."""
        return images(self.size, self.batch)[:, None]

    def model(self, *, dense: bool = False) -> MaskedAutoencoder:
        """A new model; `dense` has mask tokens in its encoder."""
        compute = ComputeOptions(unroll=-1 if self.unroll else 1)
        encoder, decoder = (
            TransformerOptions(*part, compute=compute) for part in (self.size.encoder, self.size.decoder)
        )
        options = MaskedAutoencoderOptions(
            encoder, decoder, patch=self.size.patch, encode_mask_tokens=dense, dtype=self.dtype
        )
        return nnx.jit(lambda: MaskedAutoencoder(options, self.frames().shape[1:], rngs=nnx.Rngs(0)))()

    def keys(self, count: jax.Array) -> jax.Array:
        """Random keys [batch] of a step."""
        return jax.random.split(jax.random.fold_in(jax.random.key(0), count), self.batch)


def make_steps(size: str, batch: int, dtype: str, unroll: bool) -> tuple[dict[str, Step], dict[str, Any]]:
    """Our steps, each of which makes one update and returns the loss, and facts about them.

    - "ours": a training step: masks, loss, gradient, AdamW.
    - "dense": the same with mask tokens in the encoder, so that it sees as many tokens as there are patches.
    - "sorted": "ours" without masks, shuffles and gathers: it is given normalized patches, the visible ones first.
    - "masking": masks, shuffles and gathers by themselves, of patches that are cut already. No gradient goes through
      them: neither pixels nor fixed positions are trained.
    """
    runtime.setup()
    setup = Setup(SIZES[size], batch, dtype, unroll)

    def masked_loss(model: MaskedAutoencoder, frames: jax.Array, count: jax.Array) -> jax.Array:
        return model.loss_of(frames, model.mask(setup.keys(count)))

    frames = setup.frames()
    whole, flops, parameters = training(setup.model(), masked_loss, frames)
    dense, dense_flops, _ = training(setup.model(dense=True), masked_loss, frames)
    model = setup.model()
    bare, _, _ = training(model, _sorted_loss, model.normalized(model.patches(frames)))
    facts = {
        "parameters": parameters,
        "flops": flops,
        "dense_flops": dense_flops,
        "device": jax.devices()[0].device_kind,
    }
    return {"ours": whole, "dense": dense, "sorted": bare, "masking": _masking(setup), "ceiling": ceiling(dtype)}, facts


def _sorted_loss(model: MaskedAutoencoder, patches: jax.Array, count: jax.Array) -> jax.Array:
    """The loss of normalized patches, the visible ones first."""
    visible, positions = model.num_visible, np.arange(model.num_patches)[None]
    tokens = model.encoder(patches[:, :visible], positions[:, :visible])
    predictions = model.decoder(tokens, positions, model.num_patches - visible)
    goal = targets.target(model.options.target, patches[:, visible:], model.channels)
    return jnp.mean((predictions.astype(jnp.float32) - goal) ** 2)


def _masking(setup: Setup) -> Step:
    """Masks, shuffles and gathers by themselves, of patches that are cut already."""
    merge, params, constants = state.split_model(setup.model())

    @jax.jit
    def mask(params: Any, count: jax.Array, patches: jax.Array) -> tuple:
        model = merge(params, constants)
        positions = model.mask(setup.keys(count))
        shuffled = model.normalized(jnp.take_along_axis(patches, positions[..., None], axis=1))
        seen = jnp.asarray(model.encoder.positions(), setup.dtype)[positions[:, : model.num_visible]]
        return count + 1, shuffled, seen, jnp.asarray(model.decoder.positions(), setup.dtype)[positions]

    now = [jnp.int32(0)]
    patches = jax.jit(lambda frames: patchify(frames, setup.size.patch, 1))(setup.frames())

    def step() -> float:
        now[0], *made = mask(params, now[0], patches)
        jax.block_until_ready(made)
        return 0.0

    return step
