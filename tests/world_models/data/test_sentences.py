"""Sentences for masked language models: what a row holds, which segments are paired, and texts that cannot be used."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import write_tfds

from world_models.core import specs
from world_models.core.errors import ConfigError, UserError
from world_models.data import segments
from world_models.data.segments import Span
from world_models.data.sentences import LabelledSentences, Sentences, split_sentences
from world_models.data.stream import batches
from world_models.data.text import Documents, read_documents
from world_models.data.tokenizers import tokenizer_from_dict
from world_models.data.wordpiece import SPECIAL, WordPieceTokenizer, read_vocabulary

SPLITS = {"train": 0.8, "validation": 0.1, "test": 0.1}
LETTERS = WordPieceTokenizer([*SPECIAL, *"abcdefghijklmnopqrstuvwxyz"])


def document(*sentences):
    """A document of sentences of one-letter words."""
    return "\n".join(" ".join(sentence) for sentence in sentences)


def documents(*texts, labels=()):
    return Documents("here", "0", texts, labels=labels)


def shown(batch, row=0):
    """A row as text, without padding."""
    return LETTERS.decode(batch.tokens[row][batch.blocks[row] > 0])


def test_vocabularies_are_trained_the_same_every_time_and_round_trip():
    texts = ["the cats sat on the mats", "a cat and a mat, and the rat's hat"] * 3
    tokenizer, again = (WordPieceTokenizer.train(texts, 60) for _ in range(2))
    assert tokenizer.vocabulary == again.vocabulary
    assert tokenizer.vocabulary[:5] == SPECIAL
    assert tokenizer.vocabulary_size <= 60
    assert "##at" in tokenizer.vocabulary
    tokens = tokenizer.encode("The cat's mats, [MASK]!")
    assert tokens.dtype == np.int32
    assert tokens[-2] == tokenizer.special.mask
    assert tokens[-1] == tokenizer.special.unknown
    assert tokenizer.decode(tokens) == "the cat ' s mats, [MASK] [UNK]"
    copy = tokenizer_from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    np.testing.assert_array_equal(copy.encode("rats sat"), tokenizer.encode("rats sat"))


def test_pieces_are_the_longest_from_the_left():
    tokenizer = WordPieceTokenizer([*SPECIAL, "un", "able", "##aff", "##able", "##affa", "##ble", "##a"])
    assert [tokenizer.vocabulary[t] for t in tokenizer.encode("unaffable Unable")] == [
        "un",
        "##affa",
        "##ble",
        "un",
        "##able",
    ]


def test_vocabularies_are_read_from_files_and_runs(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(LETTERS.vocabulary) + "\n")
    for path in (tmp_path, tmp_path / "vocab.txt"):
        assert read_vocabulary(path).vocabulary == LETTERS.vocabulary
    (tmp_path / "vocab.txt").write_text("\n".join(LETTERS.vocabulary))
    assert read_vocabulary(tmp_path).vocabulary == LETTERS.vocabulary
    assert read_vocabulary(tmp_path).lowercase
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert not read_vocabulary(tmp_path / "vocab.txt").lowercase
    run = tmp_path / "run"
    run.mkdir()
    spec = specs.SentenceSpec(8, LETTERS.vocabulary_size, LETTERS.to_dict(), ("next", "other"))
    (run / "data_spec.json").write_text(json.dumps(spec.to_dict()))
    assert read_vocabulary(run).vocabulary == LETTERS.vocabulary
    assert specs.from_dict(json.loads((run / "data_spec.json").read_text())) == spec
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigError) as error:
            read_vocabulary(path)
        assert error.value.field == "config.data.vocabulary"


@pytest.mark.parametrize("size", [0, 5, 9])
def test_vocabularies_without_room_are_named(size):
    with pytest.raises(ConfigError) as error:
        WordPieceTokenizer.train(["abcdefg"], size)
    assert error.value.field == "config.data.vocabulary_size"


def test_sentences_are_lines_or_end_with_punctuation():
    text = 'One. Two! "Three?" Four is 3.5 long.\n\n Five e.g. this. '
    assert split_sentences(text, "lines") == ['One. Two! "Three?" Four is 3.5 long.', "Five e.g. this."]
    assert split_sentences(text, "punctuation") == [
        "One.",
        "Two!",
        '"Three?"',
        "Four is 3.5 long.",
        "Five e.g. this.",
    ]


def test_single_segments_hold_whole_sentences_and_cut_long_ones():
    ends = [np.array([3, 5, 9]), np.array([14])]
    found = [one.spans for one in segments.single(ends, 6)]
    assert found == [(Span(0, 0, 5),), (Span(0, 5, 9),), (Span(1, 0, 6),), (Span(1, 6, 12),), (Span(1, 12, 14),)]
    rng = np.random.default_rng(0)
    ends = [np.cumsum(rng.integers(1, 12, rng.integers(1, 9))) for _ in range(30)]
    covered = [place for one in segments.single(ends, 7) for place in range(one.spans[0].begin, one.spans[0].end)]
    assert covered == [place for own in ends for place in range(own[-1])]
    assert max(one.spans[0].length for one in segments.single(ends, 7)) == 7


def test_rows_hold_special_tokens_types_and_positions():
    rows = Sentences(documents(document("abc", "de"), document("fg")), LETTERS, 12, pairs="order")
    batch = rows.load(np.arange(len(rows)))
    assert len(rows) == 1  # the other document has one sentence
    swapped = batch.labels[0]
    assert shown(batch) == ("[CLS] d e [SEP] a b c [SEP]" if swapped else "[CLS] a b c [SEP] d e [SEP]")
    first = 4 if swapped else 5
    assert batch.types[0].tolist() == [0] * first + [1] * (8 - first) + [0] * 4
    assert batch.positions[0].tolist() == [*range(8), 0, 0, 0, 0]
    assert batch.blocks[0].tolist() == [1] * 8 + [0] * 4
    assert rows.spec.classes == ("in order", "swapped")


def test_packed_rows_hold_every_segment_once_and_apart():
    texts = [document("abc"), document("de", "fgh"), document("i"), document("jklm")]
    rows = Sentences(documents(*texts), LETTERS, 12, packed=True)
    batch = rows.load(np.arange(len(rows)))
    assert [shown(batch, i) for i in range(len(rows))] == [
        "[CLS] a b c [SEP] [CLS] d e f g h [SEP]",
        "[CLS] i [SEP] [CLS] j k l m [SEP]",
    ]
    assert batch.blocks[0].tolist() == [1] * 5 + [2] * 7
    assert batch.positions[0].tolist() == [*range(5), *range(7)]
    assert (batch.labels == segments.NO_LABEL).all()
    alone = Sentences(documents(*texts), LETTERS, 12)
    assert len(alone) == 4
    assert (alone.load(np.arange(4)).blocks.max(axis=1) == 1).all()


def test_next_segments_follow_or_come_from_another_document():
    rng = np.random.default_rng(1)
    ends = [np.cumsum(rng.integers(1, 9, rng.integers(1, 20))) for _ in range(40)]
    found = segments.pairs(ends, 20, "next", np.random.default_rng(0))
    labels = np.array([one.label for one in found])
    assert 0.4 < labels.mean() < 0.7  # what is left of a document has no next sentence
    for (first, second), label in found:
        assert min(first.length, second.length) >= 1
        assert first.length + second.length <= 20
        assert (first.document != second.document) == label
        if not label:
            assert first.end <= second.begin  # with what was cut between them
    used = {(span.document, place) for one in found for span in one.spans for place in range(span.begin, span.end)}
    assert len(used) > 0.8 * sum(own[-1] for own in ends)


@pytest.mark.parametrize("room", [10, 20, 40])
def test_half_of_the_next_segments_follow_however_long_sentences_are(room):
    ends = [np.arange(1, 31) * 15 for _ in range(60)]
    labels = [one.label for one in segments.pairs(ends, room, "next", np.random.default_rng(0))]
    assert 0.45 < np.mean(labels) < 0.55


def test_order_pairs_are_of_one_document_and_half_are_swapped():
    ends = [np.arange(1, 40) * 3 for _ in range(40)]
    found = segments.pairs(ends, 20, "order", np.random.default_rng(0))
    assert 0.4 < np.mean([one.label for one in found]) < 0.6
    for (first, second), label in found:
        assert first.document == second.document
        assert (first.begin > second.begin) == label


def test_a_shuffled_corpus_has_the_same_tokens_in_other_places():
    texts = [document("abcdefgh", "ijkl"), document("mnopqrstuvwxyz")]
    plain, shuffled = (Sentences(documents(*texts), LETTERS, 30, shuffled=own) for own in (False, True))
    one, other = (np.concatenate([*rows.load(np.arange(2)).tokens]) for rows in (plain, shuffled))
    assert sorted(one) == sorted(other)
    assert (one == other).mean() < 0.7


def test_streams_of_pairs_are_a_function_of_the_seed():
    texts = [document(*("abcdef"[i:] for i in range(5)))] * 4
    rows = Sentences(documents(*texts), LETTERS, 16, pairs="next", duplicates=3)
    one, other = (next(iter(batches(rows, 4, seed=0))) for _ in range(2))
    np.testing.assert_array_equal(one.tokens, other.tokens)
    assert one.tokens.shape == (4, 16)


def labelled_lines(*rows):
    return "\n".join(json.dumps(row) for row in rows)


def test_labels_are_names_or_numbers_of_lines_and_records(tmp_path):
    (tmp_path / "train.jsonl").write_text(labelled_lines(*({"text": "a b", "label": x} for x in ("dog", "cat", 3))))
    found = read_documents(str(tmp_path), "train", text_key="text", splits=SPLITS, label_key="label")
    assert list(found.labels) == ["dog", "cat", "3"]
    rows = LabelledSentences(found, LETTERS, 8)
    assert rows.spec.classes == ("3", "cat", "dog")
    assert rows.load(np.arange(3)).labels.tolist() == [2, 1, 0]
    assert shown(rows.load(np.arange(1))) == "[CLS] a b [SEP]"
    features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["cat", "dog"])}
    data = write_tfds(tmp_path, features, {"train": [{"text": "a", "label": 1}, {"text": "b", "label": 0}]})
    assert read_documents(str(data), "train", text_key="text", splits=SPLITS, label_key="label").labels == (
        "dog",
        "cat",
    )


def test_one_document_with_a_label_is_not_divided(tmp_path):
    (tmp_path / "one.jsonl").write_text(json.dumps({"text": "a b c d e f g h i j", "label": "x"}))
    with pytest.raises(ConfigError, match="several documents"):
        read_documents(str(tmp_path), "train", text_key="text", splits=SPLITS, label_key="label")


def test_missing_labels_are_named(tmp_path):
    read = lambda path: read_documents(str(path), "train", text_key="text", splits=SPLITS, label_key="label")
    path = tmp_path / "train.jsonl"
    for row in ({"text": "b"}, {"text": "b", "label": None}, {"text": "b", "label": ""}, "b"):
        path.write_text(labelled_lines({"text": "a", "label": "x"}, row))
        with pytest.raises(UserError, match=r"line 2.*label"):
            read(path)
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ConfigError) as error:
        read(tmp_path / "a.txt")
    assert error.value.field == "config.data.label_key"
    features = {"text": tfds.features.Text(), "label": np.int64}
    data = write_tfds(tmp_path, features, {"train": [{"text": "a", "label": 1}, {"text": "b", "label": -1}]})
    with pytest.raises(UserError, match="Record 1 "):
        read(data)


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("text_length", lambda few: Sentences(few, LETTERS, 4)),
        ("sentences", lambda few: Sentences(few, LETTERS, 16, sentences="words")),
        ("pairs", lambda few: Sentences(few, LETTERS, 16, pairs="previous")),
        ("pairs", lambda few: Sentences(few, LETTERS, 16, pairs="next")),
        ("pairs", lambda few: Sentences(few, LETTERS, 16, pairs="order")),
        ("packed", lambda few: Sentences(few, LETTERS, 16, pairs="next", packed=True)),
        ("duplicates", lambda few: Sentences(few, LETTERS, 16, duplicates=0)),
    ],
)
def test_options_that_cannot_work_are_named(field, make):
    with pytest.raises(ConfigError) as error:
        make(documents(document("abc")))
    assert error.value.field == f"config.data.{field}"


def test_documents_of_one_sentence_have_no_next():
    with pytest.raises(ConfigError, match=r"no document .* has 2 sentences as config\.data\.sentences='lines'"):
        Sentences(documents("Ab. Cd.", "Ef. Gh.", "Ij."), LETTERS, 16, pairs="next")
    Sentences(documents("Ab. Cd.", "Ef. Gh.", "Ij."), LETTERS, 16, pairs="next", sentences="punctuation")


def test_texts_without_words_and_labels_without_use_are_errors():
    with pytest.raises(UserError, match="no word"):
        Sentences(documents(" \n "), LETTERS, 16)
    with pytest.raises(UserError, match="alone"):
        LabelledSentences(documents("a", "b", labels=("x", "x")), LETTERS, 16)
    with pytest.raises(UserError, match="'z'"):
        LabelledSentences(documents("a", "b", labels=("x", "z")), LETTERS, 16, ("x", "y"))
