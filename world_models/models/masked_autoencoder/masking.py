"""Masks of a masked autoencoder: every kind of masking as an order in which patches are kept."""

import jax
import jax.numpy as jnp
import numpy as np

from world_models.core.errors import ConfigError, config_error
from world_models.core.types import Array
from world_models.nn.patches import Grid

KINDS = ("random", "block", "grid", "tube", "frame")
RECTANGLES = 16  # enough to cover three quarters of an image in all but rare cases; the rest falls to chance
SMALLEST, LARGEST, NARROWEST = 0.08, 0.5, 0.3  # area of a rectangle (of the image), and its least aspect ratio


def num_visible(kind: str, ratio: float, grid: Grid) -> int:
    """How many patches stay visible when the share `ratio` is removed.

    Rounded as in the papers' code: MAE keeps the whole part of tokens·(1 − ratio), VideoMAE's tubes remove the whole
    part of ratio·(patches of a frame). Frame masking removes whole slices of time.

    Raises:
      ConfigError: if the kind is unknown, or no patch or all patches would be left.
    """
    if kind not in KINDS:
        raise config_error("config.model.masking", kind, f"be one of {', '.join(map(repr, KINDS))}")
    time, rows, columns = grid
    space = rows * columns
    if kind == "tube":
        visible = time * (space - int(ratio * space))
    elif kind == "frame":
        visible = space * (time - int(ratio * time))
    else:
        visible = int(time * space * (1 - ratio))
    if not 0 < visible < time * space:
        raise ConfigError(
            "config.model.mask_ratio",
            f"config.model.mask_ratio={ratio} leaves {visible} of {time * space} patches visible under {kind!r} "
            f"masking of {time}x{rows}x{columns} patches: at least one must be visible and one removed.",
        )
    return visible


def order(kind: str, keys: Array, grid: Grid) -> jax.Array:
    """Which patches to keep, in this order: the first `num_visible` are visible, the others removed.

    - "random": every patch alike (MAE; over space and time, MAE-ST's spacetime-agnostic masking).
    - "block": patches are removed rectangle by rectangle, each of random size, shape and position (like BEiT's
      block-wise masking), the last one in part, so that the count is exact. The same in every slice of time.
    - "grid": every second patch of every second row is kept first, then the others, each at random: with a ratio of
      three quarters and an even number of rows and columns MAE's grid-wise sampling.
    - "tube": one random mask for all slices of time (VideoMAE).
    - "frame": whole slices of time (VideoMAE, table 2; MAE-ST's time-only).

    Args:
      kind: see above.
      keys: [batch] random keys, one an example.
      grid: patches along time, height and width.

    Returns:
      int32 [batch, tokens], a permutation of the tokens for every example.
    """
    scores = {"random": _random, "block": _block, "grid": _grid, "tube": _tube, "frame": _frame}[kind]
    return jnp.argsort(jax.vmap(lambda key: scores(key, grid).reshape(-1))(keys), axis=-1, stable=True)


def _random(key: Array, grid: Grid) -> Array:
    return jax.random.uniform(key, grid)


def _tube(key: Array, grid: Grid) -> Array:
    return jnp.broadcast_to(jax.random.uniform(key, grid[1:]), grid)


def _frame(key: Array, grid: Grid) -> Array:
    return jnp.broadcast_to(jax.random.uniform(key, grid[:1])[:, None, None], grid)


def _grid(key: Array, grid: Grid) -> Array:
    row, column = np.ogrid[: grid[1], : grid[2]]
    return jax.random.uniform(key, grid) + (row % 2 | column % 2)


def _block(key: Array, grid: Grid) -> Array:
    """Minus the number of the first rectangle that covers a patch: what is covered first is kept last."""
    _, rows, columns = grid
    noise, *rectangle = jax.random.split(key, 5)
    uniform = lambda key, low, high: jax.random.uniform(key, (RECTANGLES,), minval=low, maxval=high)
    area = uniform(rectangle[0], SMALLEST, LARGEST) * rows * columns
    aspect = jnp.exp(uniform(rectangle[1], np.log(NARROWEST), -np.log(NARROWEST)))
    height = jnp.clip(jnp.round(jnp.sqrt(area * aspect)), 1, rows)
    width = jnp.clip(jnp.round(jnp.sqrt(area / aspect)), 1, columns)
    top = jnp.floor(uniform(rectangle[2], 0, 1) * (rows - height + 1))
    left = jnp.floor(uniform(rectangle[3], 0, 1) * (columns - width + 1))
    row, column = jnp.arange(rows)[:, None, None], jnp.arange(columns)[None, :, None]
    inside = (row >= top) & (row < top + height) & (column >= left) & (column < left + width)
    covered = jnp.any(inside, axis=-1)
    first = jnp.where(covered, jnp.argmax(inside, axis=-1), RECTANGLES)
    within = jax.random.uniform(noise, (rows, columns))
    return jnp.broadcast_to(within - first, grid)
