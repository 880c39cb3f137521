"""Documents, their splits and chunks, against the files that they are made of."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import write_tfds

from world_models.core.errors import ConfigError, UserError
from world_models.data.stored_episodes import Episodes
from world_models.data.text import Documents, TextChunks, read_documents
from world_models.data.tokenizers import CharacterTokenizer, TextEncoder, tokenizer_from_dict

SPLITS = {"train": 0.8, "validation": 0.1, "test": 0.1}


def read(path, split="train", text_key="text", splits=SPLITS, **options):
    return read_documents(str(path), split, text_key=text_key, splits=splits, **options)


def test_characters_round_trip_and_unknown_ones_are_marked():
    tokenizer = CharacterTokenizer.train(["abc", "aé\U0001f600"])
    assert tokenizer.vocabulary_size == 5 + 2
    tokens = tokenizer.encode("é\U0001f600cab")
    assert tokens.dtype == np.int32
    assert tokens.min() >= 2
    assert tokenizer.decode(tokens) == "é\U0001f600cab"
    assert tokenizer.decode(tokenizer.encode("axb")) == "a\ufffdb"
    again = tokenizer_from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    np.testing.assert_array_equal(again.encode("bca\U0001f600"), tokenizer.encode("bca\U0001f600"))


def test_encoder_cuts_and_pads():
    batch = TextEncoder(CharacterTokenizer("abc"), 3)(["ab", "abcabc", ""])
    assert batch.tokens.tolist() == [[2, 3, 0], [2, 3, 4], [0, 0, 0]]
    assert batch.mask.tolist() == [[True, True, False], [True] * 3, [False] * 3]


@pytest.mark.parametrize("length", [1, 3, 4])
@pytest.mark.parametrize("stride", [0, 1, 2, 3])
def test_chunks_equal_brute_force(length, stride):
    if stride > length:
        return
    texts = ["abcdefg", "hi", "jklmnopq", "r", "stuv"]
    tokenizer = CharacterTokenizer.train(texts)
    chunks = TextChunks(Documents("here", "0", texts), tokenizer, length, stride)
    expected = []
    for text in texts:
        for start in range(0, len(text), stride or length):
            expected.append(text[start : start + length])
            if start + length >= len(text):
                break
    batch = chunks.load(np.arange(len(chunks)))
    assert [tokenizer.decode(row) for row in batch.tokens] == expected
    np.testing.assert_array_equal(batch.mask.sum(axis=1), [len(text) for text in expected])
    np.testing.assert_array_equal(batch.tokens != 0, batch.mask)


def test_one_file_is_divided_in_order(tmp_path):
    text = "".join(chr(ord("a") + i % 26) for i in range(1003))
    (tmp_path / "book.txt").write_text(text)
    found = {split: read(tmp_path / "book.txt", split) for split in SPLITS}
    assert "".join(found[split].texts[0] for split in SPLITS) == text
    assert len(found["train"].texts[0]) == 802
    assert len({each.fingerprint for each in found.values()}) == 1
    (tmp_path / "book.txt").write_text(text[:-1] + "!")
    assert read(tmp_path / "book.txt").fingerprint != found["train"].fingerprint


@pytest.mark.parametrize("form", ["txt", "jsonl"])
def test_documents_are_in_one_split_each_and_equal_ones_in_the_same(tmp_path, form):
    texts = [f"document {i % 20}" for i in range(30)]  # ten of them twice
    if form == "txt":
        for i, text in enumerate(texts):
            (tmp_path / f"{i:02}.txt").write_text(text)
    else:
        lines = [json.dumps({"text": text, "other": 1}) for text in texts]
        (tmp_path / "all.jsonl").write_text("\n".join(lines) + "\n\n")
    found = {split: read(tmp_path, split).texts for split in SPLITS}
    assert sorted(text for texts in found.values() for text in texts) == sorted(texts)
    assert not set(found["train"]) & (set(found["validation"]) | set(found["test"]))
    assert len(set(found["train"])) == 16
    assert read(tmp_path, "train").texts == found["train"]


def test_files_called_as_a_split_are_that_split(tmp_path):
    for name in ("train", "test"):
        (tmp_path / f"{name}.txt").write_text(name)
    assert [list(read(tmp_path, name).texts) for name in ("train", "test")] == [["train"], ["test"]]
    with pytest.raises(UserError, match="validation"):
        read(tmp_path, "validation")


def test_text_of_records_is_the_text_of_files(tmp_path):
    texts = ["first", "second é", "third"]
    features = {"text": tfds.features.Text(), "language": tfds.features.Text()}
    data = write_tfds(tmp_path, features, {"train": [{"text": t, "language": "en"} for t in texts]})
    found = read(data)
    assert list(found.texts) == texts
    assert list(read(data, "train[1:]").texts) == texts[1:]
    assert list(read(data, text_key="language").texts) == ["en"] * 3
    with pytest.raises(ConfigError, match="'language', 'text'") as error:
        read(data, text_key="body")
    assert error.value.field == "config.data.text_key"


def test_an_instruction_in_every_step_is_the_text_of_the_episode(tmp_path, square_data):
    steps = {"n": np.int64, "instruction": tfds.features.Text()}
    features = {"steps": tfds.features.Dataset(steps)}
    examples = [{"steps": {"n": np.arange(3), "instruction": [text] * 3}} for text in ("go left", "stop")]
    assert list(read(write_tfds(tmp_path, features, {"train": examples}), text_key="instruction").texts) == [
        "go left",
        "stop",
    ]
    assert set(Episodes(str(square_data), "train").texts("policy")) == {"random"}


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("a.txt", "naïve".encode("latin-1"), "UTF-8"),
        ("a.txt", "text".encode("utf-16"), "UTF-8"),
        ("a.txt", b"", "a.txt"),
        ("a.txt", b" \n", "a.txt"),
        ("a.txt", "text".encode("utf-16-le"), "zero byte"),
        ("a.jsonl", b'{"text": "a"}\n{"text": ""}', "line 2"),
        ("a.jsonl", b'{"text": "a"}\n{"text": " "}', "line 2"),
        ("a.jsonl", b'{"text": "a"}\n{"txt": "b"}', "line 2"),
        ("a.jsonl", b'{"text": "a"}\n{"text', "line 2"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, name, content, named):
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(UserError, match=str(tmp_path / name)) as error:
            read(path)
        assert named in str(error.value)


@pytest.mark.parametrize("empty", ["", " \n"])
def test_empty_documents_of_records_are_named(tmp_path, empty):
    data = write_tfds(tmp_path, {"text": tfds.features.Text()}, {"train": [{"text": "a"}, {"text": empty}]})
    with pytest.raises(UserError, match="Record 1 "):
        read(data)


@pytest.mark.parametrize(
    ("field", "open_one"),
    [
        ("text_length", lambda path: TextChunks(read(path), CharacterTokenizer("ab"), 1000)),
        ("text_length", lambda path: TextChunks(read(path), CharacterTokenizer("ab"), 0)),
        ("stride", lambda path: TextChunks(read(path), CharacterTokenizer("ab"), 4, 5)),
        ("splits", lambda path: read(path, splits={"train": 0.5})),
        ("dataset", lambda path: read(path.with_suffix(".pdf"))),
    ],
)
def test_options_that_cannot_work_are_named(tmp_path, field, open_one):
    (tmp_path / "a.txt").write_text("ab" * 100)
    (tmp_path / "a.pdf").write_text("ab" * 100)
    with pytest.raises(ConfigError) as error:
        open_one(tmp_path / "a.txt")
    assert error.value.field == f"config.data.{field}"


def test_too_few_documents_for_a_split_are_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('"one"\n"two"\n')
    with pytest.raises(ConfigError) as error:
        read(tmp_path)
    assert error.value.field.startswith("config.data.splits.")
