"""What a language model fills in for masked words: the capability `imagine`."""

import pathlib
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.evaluation.rollouts import spread
from experiments.reports import report
from experiments.runs.files import fresh_folder, write_json
from world_models.core import sharding as parallel
from world_models.core.errors import UserError, config_error
from world_models.core.types import Array, SentenceBatch
from world_models.data.sentences import encoded
from world_models.data.tokenizers import tokenizer_from_dict
from world_models.data.wordpiece import CONTINUED, WordPieceTokenizer

if TYPE_CHECKING:
    from experiments.runs.loading import LoadedRun

SHOWN = 12  # tokens on either side of a mask


def measure(run: "LoadedRun") -> dict[str, Any]:
    """The content of imagine/fillings.json.

    Raises:
      UserError: if the run predicts no masked words, or a sentence has none, or is too long.
    """
    options, tokenizer = run.config.eval.imagine, tokenizer_from_dict(run.spec.tokenizer)
    if run.experiment.classifies or not run.config.model.masked:
        raise UserError(f"{run.workdir} predicts no masked words: imagine a run with config.model.masked above 0.")
    if not 1 <= options.num_fillings <= run.spec.vocabulary_size:
        valid = f"be from 1 to {run.spec.vocabulary_size}, the vocabulary"
        raise config_error("config.eval.imagine.num_fillings", options.num_fillings, valid)
    if options.sentences:
        batch, places, truths = _given(tuple(options.sentences), tokenizer, run.spec.length)
    else:
        batch, places, truths = _held_out(run, tokenizer)
    probabilities = parallel.on_host(
        _probabilities(run.model, *parallel.place_beside(run.model, (batch, places[:, 1], places[:, 0])))
    )
    shown = []
    for i, (row, place) in enumerate(places):
        best = np.argsort(-probabilities[i], kind="stable")[: options.num_fillings]
        shown.append(
            {
                "sentence": _around(batch, row, place, tokenizer),
                "truth": truths[i],
                "fillings": [
                    {"token": tokenizer.vocabulary[t], "probability": float(probabilities[i, t])} for t in best
                ],
            }
        )
    provenance = run.provenance() if options.sentences else run.provenance_of(run.config.data.test_split)
    return {"step": run.step, "masks": shown, "provenance": provenance}


def write(run: "LoadedRun") -> pathlib.Path:
    """Prints masked sentences with fillings; writes imagine/: fillings.json and report.html, whose path it returns."""
    found = measure(run)
    body = []
    for one in found["masks"]:
        fillings = ", ".join(f"{f['token']} {f['probability']:.3f}" for f in one["fillings"])
        truth = f" (it was: {one['truth']})" if one["truth"] else ""
        print(f"{one['sentence']}\n    {fillings}{truth}")
        body += [report.paragraph(one["sentence"]), report.paragraph(f"{fillings}{truth}")]
    path = run.workdir / "imagine"
    with fresh_folder(path) as folder:
        write_json(folder / "fillings.json", found)
        title = f"Masked words: {run.workdir.name}"
        report.write_page(folder / "report.html", title, body, found["provenance"], run.config.to_dict())
    return path / "report.html"


def _given(
    sentences: tuple[str, ...], tokenizer: WordPieceTokenizer, length: int
) -> tuple[SentenceBatch, np.ndarray, list[str]]:
    """Sentences of the user: (batch, (row, place) of every mask, no truths)."""
    rows, field = [tokenizer.encode(sentence) for sentence in sentences], "config.eval.imagine.sentences"
    for sentence, row in zip(sentences, rows):
        if tokenizer.special.mask not in row:
            raise config_error(field, sentence, "have a [MASK], in capitals and brackets, where something is filled in")
        if len(row) > length - 2:
            raise config_error(field, sentence, f"have at most {length - 2} pieces; it has {len(row)}")
    batch = encoded(rows, tokenizer, length)
    places = np.argwhere(batch.tokens == tokenizer.special.mask)
    return batch, places, [""] * len(places)


def _held_out(run: "LoadedRun", tokenizer: WordPieceTokenizer) -> tuple[SentenceBatch, np.ndarray, list[str]]:
    """Held-out rows with a whole word masked in each: (batch, (row, place) of the masks, what stood there)."""
    data = run.experiment.open_data(run.config, run.workdir, run.config.data.test_split, run.spec)
    batch = data.load(spread(data, run.config.eval.imagine.num_shown))
    continues = np.array([piece.startswith(CONTINUED) for piece in tokenizer.vocabulary])
    following = np.roll(batch.tokens, -1, axis=1)
    word = np.array([piece[0].isalpha() for piece in tokenizer.vocabulary])
    whole = word[batch.tokens] & ~continues[following]
    rng, places, truths = np.random.default_rng(run.config.seed), [], []
    for row in np.flatnonzero(whole.any(axis=1)):
        place = int(rng.choice(np.flatnonzero(whole[row])))
        truths.append(tokenizer.vocabulary[batch.tokens[row, place]])
        batch.tokens[row, place] = tokenizer.special.mask
        places.append((row, place))
    if not places:
        raise UserError(f"{data.name} has no row with a whole word to mask in split {run.config.data.test_split!r}.")
    return batch, np.array(places), truths


@jax.jit
def _probabilities(model: nnx.Module, batch: SentenceBatch, places: Array, rows: Array) -> jax.Array:
    """Probabilities of all tokens, float32 [masks, vocabulary], at a place of a row each."""
    features = model.encoder(batch)[rows]
    return jax.nn.softmax(model.logits(features, jnp.asarray(places)[:, None])[:, 0])


def _around(batch: SentenceBatch, row: int, place: int, tokenizer: WordPieceTokenizer) -> str:
    """The text on either side of a place."""
    low, high = max(place - SHOWN, 0), place + SHOWN + 1
    seen = batch.blocks[row, low:high] == batch.blocks[row, place]
    tokens = batch.tokens[row, low:high][seen]
    special = (tokenizer.special.first, tokenizer.special.separator)
    return tokenizer.decode(tokens[~np.isin(tokens, special)])
