"""Bidirectional transformers of text: the encoder, the heads of pretraining, and the classifier."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from world_models.core.sharding import axes
from world_models.core.types import Array, SentenceBatch
from world_models.models.language.masking import Masked
from world_models.models.language.options import LanguageOptions
from world_models.nn.operations import operations
from world_models.nn.transformer import Transformer, block_mask, make_norm

_small = nnx.initializers.truncated_normal(0.02)  # BERT's, for embeddings and heads


class Encoder(nnx.Module):
    """Embeddings of tokens, positions and types, their norm, and the transformer."""

    def __init__(self, options: LanguageOptions, vocabulary_size: int, *, rngs: nnx.Rngs):
        """Builds it for tokens in [0, vocabulary_size)."""
        width, dtype = options.transformer.width, jnp.dtype(options.dtype)
        norm = {"learned": True, "epsilon": options.norm_epsilon, "dtype": dtype, "rngs": rngs}

        def table(rows: int) -> nnx.Embed:
            metadata = axes("vocabulary" if rows == vocabulary_size else None, "width")
            return nnx.Embed(
                rows, width, embedding_init=_small, embedding_metadata=metadata, dtype=dtype, rngs=rngs
            )  # fmt: skip

        self.tokens, self.positions, self.types = table(vocabulary_size), table(options.positions), table(2)
        self.embedding_norm = make_norm(options.transformer, **norm)
        settings = {"post_norm": options.post_norm, "epsilon": options.norm_epsilon}
        self.transformer = Transformer(options.transformer, dtype=dtype, rngs=rngs, **settings)
        self.norm = None if options.post_norm else make_norm(options.transformer, **norm)

    def __call__(self, batch: SentenceBatch, gates: Array | None = None) -> jax.Array:
        """Features of every token, [batch, length, width]; `gates` are those of `Transformer`."""
        x = self.tokens(batch.tokens) + self.positions(batch.positions) + self.types(batch.types)
        x = self.transformer(self.embedding_norm(x), gates=gates, mask=block_mask(batch.blocks))
        return x if self.norm is None else self.norm(x)


class Pooler(nnx.Module):
    """What a row's first token knows of the whole: tanh(linear)."""

    def __init__(self, options: LanguageOptions, *, rngs: nnx.Rngs):
        width, dtype = options.transformer.width, jnp.dtype(options.dtype)
        self.linear = nnx.Linear(width, width, kernel_init=_small, dtype=dtype, rngs=rngs)

    def __call__(self, features: Array) -> jax.Array:
        """[batch, length, width] -> [batch, width]."""
        return jnp.tanh(self.linear(features[:, 0]))


class MaskedHead(nnx.Module):
    """Logits of tokens: linear, GELU, norm, and the products with the token embeddings, which it shares."""

    def __init__(self, options: LanguageOptions, vocabulary_size: int, *, rngs: nnx.Rngs):
        width, dtype = options.transformer.width, jnp.dtype(options.dtype)
        self.ops = operations(options.transformer.compute.ops)
        dot = {"dot_general": self.ops.dot_general}
        self.linear = nnx.Linear(width, width, kernel_init=_small, dtype=dtype, rngs=rngs, **dot)
        self.norm = make_norm(options.transformer, learned=True, epsilon=options.norm_epsilon, dtype=dtype, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(vocabulary_size), **axes("vocabulary"))

    def __call__(self, features: Array, embedding: nnx.Embed) -> jax.Array:
        """[..., width] -> float32 [..., vocabulary_size]."""
        x = self.norm(self.ops.gelu(self.linear(features)))
        return embedding.attend(x).astype(jnp.float32) + self.bias[...]


class LanguageModel(nnx.Module):
    """BERT in pretraining: predicts masked tokens, and which pair of segments a row holds."""

    def __init__(self, options: LanguageOptions, vocabulary_size: int, *, rngs: nnx.Rngs):
        """Builds the encoder and the heads whose weights in the loss are not 0."""
        self.options, width = options, options.transformer.width
        self.encoder = Encoder(options, vocabulary_size, rngs=rngs)
        self.masked_head = MaskedHead(options, vocabulary_size, rngs=rngs) if options.masked else None
        self.pooler = Pooler(options, rngs=rngs) if options.pairs else None
        self.pair_head = nnx.Linear(width, 2, kernel_init=_small, rngs=rngs) if options.pairs else None

    def logits(self, features: Array, places: Array) -> jax.Array:
        """Logits of the tokens at some places.

        Args:
          features: [batch, length, width], of the encoder.
          places: int32 [batch, predictions].

        Returns:
          Float32 [batch, predictions, vocabulary_size].
        """
        gathered = jnp.take_along_axis(features, places[:, :, None], axis=1)
        return self.masked_head(gathered, self.encoder.tokens)

    def pair_logits(self, features: Array) -> jax.Array:
        """Float32 [batch, 2]: whether the second segment belongs after the first, or not."""
        return self.pair_head(self.pooler(features)).astype(jnp.float32)

    def loss(self, batch: SentenceBatch, masked: Masked) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The weighted sum of both losses, in nats, each a mean over what is predicted, and metrics.

        Args:
          batch: rows; the pair counts where the label is 0 or 1.
          masked: what the model sees of them, and what it must predict.
        """
        features = self.encoder(batch._replace(tokens=masked.tokens))
        total, metrics = jnp.float32(0), {}
        if self.masked_head is not None:
            loss, accuracy = _mean_loss(self.logits(features, masked.places), masked.targets, masked.weights)
            total += self.options.masked * loss
            metrics |= {"masked_loss": loss, "masked_accuracy": accuracy}
        if self.pair_head is not None:
            loss, accuracy = _mean_loss(self.pair_logits(features), batch.labels, batch.labels >= 0)
            total += self.options.pairs * loss
            metrics |= {"pair_loss": loss, "pair_accuracy": accuracy}
        return total, {"loss": total, **metrics}


class SentenceClassifier(nnx.Module):
    """The encoder, the pooler and a linear head over classes."""

    def __init__(self, options: LanguageOptions, vocabulary_size: int, num_classes: int, *, rngs: nnx.Rngs):
        """Builds it; encoder and pooler have the names that they have in `LanguageModel`."""
        self.options = options
        self.encoder = Encoder(options, vocabulary_size, rngs=rngs)
        self.pooler = Pooler(options, rngs=rngs)
        self.head = nnx.Linear(options.transformer.width, num_classes, kernel_init=_small, rngs=rngs)

    def __call__(self, batch: SentenceBatch) -> jax.Array:
        """Logits, float32 [batch, classes]."""
        return self.head(self.pooler(self.encoder(batch))).astype(jnp.float32)

    def loss(self, batch: SentenceBatch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Mean cross-entropy, in nats, of rows whose label is not −1, and metrics."""
        loss, accuracy = _mean_loss(self(batch), batch.labels, batch.labels >= 0)
        return loss, {"loss": loss, "accuracy": accuracy}


def mean_features(encoder: Encoder, batch: SentenceBatch) -> jax.Array:
    """The mean of the features of a row's tokens, special ones included, float32 [batch, width]."""
    features, filled = encoder(batch).astype(jnp.float32), (batch.blocks > 0)[..., None]
    return jnp.sum(features, axis=1, where=filled) / jnp.sum(filled, axis=1)


def _mean_loss(logits: Array, labels: Array, weights: Array) -> tuple[jax.Array, jax.Array]:
    """(cross-entropy, accuracy) as means weighted by `weights`; 0 where none counts."""
    labels, weights = jnp.maximum(labels, 0), jnp.asarray(weights, jnp.float32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    mean = lambda x: jnp.sum(x * weights) / jnp.maximum(jnp.sum(weights), 1)
    return mean(losses), mean(jnp.argmax(logits, axis=-1) == labels)
