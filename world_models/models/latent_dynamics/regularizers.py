"""Loss terms on batches of latents that prevent collapse and make latents suitable for planning.

All statistics are plain means over all given examples. Under `jax.jit` with a batch that is split over
devices these are means over the global batch, so that the loss is the same on any number of devices.
"""

import jax
import jax.numpy as jnp
import numpy as np

from world_models.core.types import Array

EPSILON = 1e-4  # added to a variance before its root
STEEP = 10.0  # weight of steps longer than a tick
KNOTS, REACH = 17, 3.0  # points and end of the interval on which SIGReg compares characteristic functions


def variance(z: Array) -> jax.Array:
    """Hinge loss on standard deviations below 1: the mean of max(0, 1 − √(Var + 1e-4)) (Bardes et al. 2021, VICReg).

    Args:
      z: float32 [n, dim], n at least 2; the variance is the unbiased one.

    Returns:
      A scalar, from 0 (all at least 1) to 0.99 (collapsed).
    """
    return jnp.mean(jax.nn.relu(1 - jnp.sqrt(jnp.var(z, axis=0, ddof=1) + EPSILON)))


def covariance(z: Array) -> jax.Array:
    """Redundancy of dimensions: the mean square of the covariances between two of them (VICReg).

    Args:
      z: float32 [n, dim], n at least 2.

    Returns:
      A scalar; 0 where there is only one dimension.
    """
    count, dim = z.shape
    centred = z - z.mean(axis=0)
    matrix = centred.T @ centred / (count - 1)
    others = jnp.where(np.eye(dim, dtype=bool), 0, matrix)
    return jnp.sum(others**2) / max(dim * (dim - 1), 1)


def time_similarity(z: Array) -> jax.Array:
    """The mean square of steps: latents [batch, time, dim] of neighbouring frames should be near (PLDM)."""
    return jnp.mean(time_steps(z))


def time_steps(z: Array) -> jax.Array:
    """Mean squares of steps in time: [batch, time, dim] -> [batch, time − 1]."""
    return jnp.mean((z[:, 1:] - z[:, :-1]) ** 2, axis=-1)


def inverse_dynamics(predicted: Array, actions: Array) -> jax.Array:
    """Mean squared error of actions [..., dim] predicted from the latents before and after; no gradient for those."""
    return jnp.mean((predicted - jax.lax.stop_gradient(actions)) ** 2)


def temporal_distance(embeddings: Array, max_distance: float) -> jax.Array:
    """The QRL objective: pushes embeddings apart as far as steps of one tick allow; distances become path lengths.

    QRL (Wang et al. 2023, arXiv 2304.01203) with a symmetric metric in place of its quasimetric and a fixed weight in
    place of its multiplier: the mean of softplus(max_distance − d) over all pairs in the batch, and STEEP times
    that of max(0, d − 1)² over neighbours in time.

    Args:
      embeddings: float32 [batch, time, dim]; d is the root mean square of a difference.
      max_distance: ticks, beyond which the repulsion fades.

    Returns:
      A scalar, above 0.
    """
    apart = lambda square: jnp.sqrt(jnp.maximum(square, 0) + EPSILON)
    rows = embeddings.reshape(-1, embeddings.shape[-1])
    lengths = jnp.mean(rows**2, axis=-1)
    # Full float32 precision: differences of large squares would lose all digits in an accelerator's short products.
    products = jnp.matmul(rows, rows.T, precision=jax.lax.Precision.HIGHEST) / rows.shape[-1]
    pairs = lengths[:, None] + lengths - 2 * products
    steps = apart(time_steps(embeddings))
    far = jnp.mean(jax.nn.softplus(max_distance - apart(pairs)))
    return far + STEEP * jnp.mean(jax.nn.relu(steps - 1) ** 2)


def sigreg(z: Array, key: Array, projections: int = 1024) -> jax.Array:
    """Distance of latents from N(0, I): Epps-Pulley statistics of projections (SIGReg; Balestriero & LeCun 2025).

    Per time step and projection the empirical characteristic function of the batch is compared with exp(−t²/2),
    weighted by exp(−t²/2), by the trapezoid rule on 17 knots in [0, 3], doubled for the negative side.

    Args:
      z: float32 [batch, time, dim].
      key: of the projections, the same on all devices.
      projections: how many.

    Returns:
      A scalar: the statistic times the batch size, as it is tested for normality. For normal latents its mean is
      √(2π)·(1 − 1/√3) ≈ 1.06 whatever the batch; for collapsed ones it is 0.41 a row and grows with the batch.
    """
    directions = jax.random.normal(key, (z.shape[-1], projections))
    x = z @ (directions / jnp.linalg.norm(directions, axis=0))

    @jax.checkpoint  # else 2 x 17 arrays of the size of all projections are kept for the backward pass
    def error(t: Array) -> jax.Array:
        normal = jnp.exp(-(t**2) / 2)
        distance = (jnp.mean(jnp.cos(x * t), axis=0) - normal) ** 2 + jnp.mean(jnp.sin(x * t), axis=0) ** 2
        return normal * jnp.mean(distance)

    step = REACH / (KNOTS - 1)
    weights = np.full(KNOTS, 2 * step, np.float32)
    weights[[0, -1]] = step
    knots = np.linspace(0, REACH, KNOTS, dtype=np.float32)
    total, _ = jax.lax.scan(
        lambda total, knot: (total + knot[1] * error(knot[0]), None), 0.0, (jnp.asarray(knots), jnp.asarray(weights))
    )
    return total * z.shape[0]
