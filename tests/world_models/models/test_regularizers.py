"""Loss terms on latents, against NumPy in float64 and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np

from world_models.models.latent_dynamics import regularizers

sigreg = jax.jit(regularizers.sigreg, static_argnames="projections")


def latents(shape=(5, 4, 6), scale=0.7, seed=0):
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=shape) @ rng.normal(size=(shape[-1], shape[-1]))
    return (scale * mixed + rng.normal(size=shape[-1])).astype(np.float32)


def test_variance_and_covariance_are_those_of_numpy_in_float64():
    z = latents().reshape(-1, 6)
    matrix = np.cov(z.astype(np.float64), rowvar=False)
    short = np.maximum(0, 1 - np.sqrt(np.diag(matrix) + 1e-4)).mean()
    others = (matrix[~np.eye(6, dtype=bool)] ** 2).mean()
    np.testing.assert_allclose(regularizers.variance(0.5 * z / z.std(axis=0)), 0.5, atol=0.02)
    np.testing.assert_allclose(regularizers.variance(z), short, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(regularizers.covariance(z), others, rtol=1e-5)
    assert regularizers.covariance(z[:, :1]) == 0  # nothing to be correlated with


def test_collapsed_latents_have_finite_gradients():
    z = jnp.ones((4, 3))
    np.testing.assert_allclose(regularizers.variance(z), 0.99, atol=1e-6)
    gradient = jax.grad(lambda z: regularizers.variance(z) + regularizers.covariance(z))(z)
    assert np.isfinite(np.asarray(gradient)).all()


def test_time_similarity_and_inverse_dynamics():
    z = latents()
    np.testing.assert_allclose(
        regularizers.time_similarity(z), (np.diff(z.astype(np.float64), axis=1) ** 2).mean(), rtol=1e-5
    )
    actions = jnp.array([[1.0, 2.0]])
    value, gradient = jax.value_and_grad(regularizers.inverse_dynamics, (0, 1))(actions + 0.5, actions)
    np.testing.assert_allclose(value, 0.25)
    assert gradient[0].any()
    assert not gradient[1].any()  # actions are no target to be moved


def test_temporal_distance_is_that_of_numpy_in_float64():
    embeddings, max_distance = 3 * latents(), 4.0
    rows = embeddings.astype(np.float64).reshape(-1, 6)
    apart = lambda a, b: np.sqrt(((a - b) ** 2).mean(axis=-1) + 1e-4)
    far = np.log1p(np.exp(max_distance - apart(rows[:, None], rows))).mean()
    steps = apart(embeddings[:, 1:].astype(np.float64), embeddings[:, :-1])
    expected = far + 10 * (np.maximum(steps - 1, 0) ** 2).mean()
    np.testing.assert_allclose(regularizers.temporal_distance(embeddings, max_distance), expected, rtol=1e-5)
    gradient = jax.grad(regularizers.temporal_distance)(jnp.ones((3, 4, 2)), max_distance)
    assert np.isfinite(np.asarray(gradient)).all()


def test_temporal_distance_learns_path_lengths_around_walls():
    """Twelve embeddings on a ring, the last barred from the first: how far they are apart is how long the way is."""
    lengths = np.abs(np.arange(12)[:, None] - np.arange(12))
    pairs = np.stack([np.arange(11), np.arange(1, 12)], axis=-1)

    @jax.jit
    def train(embeddings):
        def step(carry, _):
            embeddings, speed = carry
            gradient = jax.grad(lambda embeddings: regularizers.temporal_distance(embeddings[pairs], 12.0))(embeddings)
            speed = 0.9 * speed - 0.05 * gradient
            return (embeddings + speed, speed), None

        return jax.lax.scan(step, (embeddings, 0 * embeddings), None, length=3000)[0][0]

    angle = 2 * np.pi * np.arange(12) / 12
    embeddings = train(jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1))
    found = np.sqrt(((embeddings[:, None] - embeddings) ** 2).mean(axis=-1))
    np.testing.assert_allclose(found / found[0, -1] * 11, lengths, atol=1.0)
    np.testing.assert_allclose(np.diag(found, 1), 1, atol=0.35)  # a little over one tick: the limit is a soft one


def test_sigreg_is_that_of_numpy_in_float64():
    z, key = latents(), jax.random.key(3)
    a = np.asarray(jax.random.normal(key, (6, 1024)), np.float64)
    x = z.astype(np.float64) @ (a / np.linalg.norm(a, axis=0))
    t = np.linspace(0, 3, 17)
    batch_mean = np.exp(1j * x[..., None] * t).mean(axis=0)
    distance = np.abs(batch_mean - np.exp(-(t**2) / 2)) ** 2
    both_sides = 2 * np.trapezoid(distance * np.exp(-(t**2) / 2), t, axis=-1)
    np.testing.assert_allclose(sigreg(z, key), 5 * both_sides.mean(), rtol=1e-4)


def test_sigreg_of_normal_latents_is_its_expectation_and_grows_for_others():
    batch, key, own = 256, jax.random.key(0), jax.random.key(1)
    z = jax.random.normal(own, (batch, 8, 16))
    normal = float(sigreg(z, key, projections=64))
    expected = np.sqrt(2 * np.pi) * (1 - 1 / np.sqrt(3))  # E|mean − φ|² = (1 − φ²) / batch
    np.testing.assert_allclose(normal, expected, rtol=0.15)
    assert normal / batch < 0.02  # about 0 beside what follows
    collapsed = np.sqrt(2 * np.pi) * (1 - np.sqrt(2) + 1 / np.sqrt(3)) * batch
    np.testing.assert_allclose(sigreg(0 * z, key, projections=64), collapsed, rtol=0.03)  # beyond 3 nothing is added
    assert sigreg(3 * z, key, projections=64) > 0.1 * batch
    assert sigreg(z.at[..., 1:].set(z[..., :1]), key, projections=64) > 0.05 * batch  # one direction alone
