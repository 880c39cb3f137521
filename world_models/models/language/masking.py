"""Which tokens a masked language model must predict, and what it sees in their place."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from world_models.core.types import Array, SentenceBatch
from world_models.data.wordpiece import SpecialTokens
from world_models.models.language.options import MaskOptions


class Masked(NamedTuple):
    """Rows with tokens to predict.

    Attributes:
      tokens: int32 [batch, length], what the model sees.
      places: int32 [batch, predictions], where it predicts, all different within a row.
      targets: int32 [batch, predictions], the true tokens there.
      weights: float32 [batch, predictions], 1 where a prediction counts, 0 where the row has fewer.
    """

    tokens: Array
    places: Array
    targets: Array
    weights: Array


def num_predictions(length: int, ratio: float) -> int:
    """Predictions of a full row."""
    return max(1, round(length * ratio))


def mask_tokens(
    keys: Array, batch: SentenceBatch, options: MaskOptions, special: SpecialTokens, vocabulary_size: int
) -> Masked:
    """Chooses tokens at random: a share of each row's, special ones counted but never chosen.

    Args:
      keys: [batch] random keys.
      batch: the rows.
      options: how many, and what stands in their place.
      special: numbers of the special tokens.
      vocabulary_size: tokens that a random one is drawn from, special ones included, as in the published code.
    """
    tokens = jnp.asarray(batch.tokens)
    most = num_predictions(tokens.shape[1], options.ratio)
    filled = jnp.asarray(batch.blocks) > 0
    candidates = filled & (tokens != special.first) & (tokens != special.separator)

    def choose(key: Array, tokens: Array, candidates: Array, length: Array) -> Masked:
        places_key, kind_key, random_key = jax.random.split(key, 3)
        noise = jax.random.uniform(places_key, tokens.shape)
        _, places = jax.lax.top_k(jnp.where(candidates, noise, -1.0), most)
        count = jnp.clip(jnp.round(length * options.ratio), 1, most)
        counted = (jnp.arange(most) < count) & candidates[places]
        targets = tokens[places]
        kind = jax.random.uniform(kind_key, (most,))
        random = jax.random.randint(random_key, (most,), 0, vocabulary_size)
        seen = jnp.where(kind < options.masked + options.random, random, targets)
        seen = jnp.where(kind < options.masked, special.mask, seen)
        tokens = tokens.at[places].set(jnp.where(counted, seen, targets), unique_indices=True)
        return Masked(tokens, places, targets, counted.astype(jnp.float32))

    return jax.vmap(choose)(keys, tokens, candidates, filled.sum(axis=1))
