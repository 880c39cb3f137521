"""Texts of packages, in the formats that the packages have."""

import dataclasses
import gzip
import json

import pytest

from world_models.core.errors import ConfigError, UserError
from world_models.data.sources import collection, open_source, packages, texts
from world_models.data.text import read_documents

MAIL = "From: a\nsubject: Cheap\n  watches\nTo: b\n\nSubject: not this\n"
FILES = {
    "brown": {
        "cats.txt": "ca01 news\ncr01 humor\n",
        "ca01": "\n\n\tThe/at jury/nn and/or/cc so/rb ./.\n\n\t``/`` Yes/rb ''/''\n",
        "cr01": "\tNaïve/jj\n",
    },
    "wordnet": {
        f"dict/data.{part}": f'  1 licence | text\n001 03 n | a {part}; of a kind; "it is; one"; "two"  \n'
        for part in ("noun", "verb", "adj", "adv")
    },
    "gcide": {
        "gcide.dict.dz": "00-database-info\n   About.\n"
        '\nAbbey \\Ab"bey\\, n. [OE.]\n   1. A {monastery}\n   of monks.\n'
        "   [1913 Webster]\n\n   2. A church.\n   [1913 Webster]\nZebra\n   An animal.\n"
    },
    "spam_subjects": {
        "spam-1/1.json": json.dumps({"text": MAIL}),
        "easy-ham-1/2.json": json.dumps({"text": MAIL.replace("Cheap", "Re:")}),
        "easy-ham-1/3.json": json.dumps({"text": "From: c\n\nno subject"}),
    },
    "headlines": {"tech/1.txt": "A chip\n\nIt is small.", "sports/1.txt": "A goal\n", "sports/2.txt": "A goal\n"},
}
EXPECTED = {
    "brown": [('The jury and/or so .\n" Yes "', "news"), ("Naïve", "humor")],
    "wordnet": [(f"a {part}; of a kind\nit is; one\ntwo", part) for part in ("noun", "verb", "adj", "adv")],
    "gcide": [("Abbey.\n1. A monastery of monks.\n2. A church.", None), ("Zebra.\nAn animal.", None)],
    "spam_subjects": [("Re: watches", "ham"), ("Cheap watches", "spam")],
    "headlines": [("A goal", "sports"), ("A chip", "tech")],
}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Packages that hold a few texts each."""
    monkeypatch.setenv("WORLD_MODELS_SOURCES", str(tmp_path / "sources"))
    for kind, files in FILES.items():
        for name, content in files.items():
            path = tmp_path / "sources" / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            data = content.encode("latin-1" if kind == "brown" else "utf-8")
            path.write_bytes(gzip.compress(data) if name.endswith(".dz") else data)
        package, reader = texts._SOURCES[kind]
        present = tuple(sorted({name.split("/")[0] for name in files}))
        monkeypatch.setitem(texts._SOURCES, kind, (dataclasses.replace(package, wanted=present, system=""), reader))
    return tmp_path


@pytest.mark.parametrize("kind", FILES)
def test_texts_are_read_with_their_labels(installed, kind):
    corpus = texts.read(kind)
    assert list(zip(corpus.texts, corpus.labels or [None] * len(corpus.texts))) == EXPECTED[kind]


def test_tags_stand_under_the_words(installed):
    corpus = texts.read("brown")
    assert corpus.tags[0] == "at nn cc rb .\n`` rb ''"


def test_a_recorded_source_is_a_document_an_example(installed):
    options = {"source": "wordnet", "seed": 0, "num_episodes": 0, "splits": {"train": 0.5, "test": 0.5}}
    collection.write(installed / "data", installed / "scratch", open_source(options), options)
    read = lambda split: read_documents(str(installed / "data"), split, text_key="text", splits={}, label_key="label")
    found = [row for split in ("train", "test") for row in zip(read(split).texts, read(split).labels)]
    assert sorted(found) == sorted(EXPECTED["wordnet"])
    with pytest.raises(ConfigError) as error:
        open_source(options | {"num_episodes": 5})
    assert error.value.field == "config.record.num_episodes"


def test_missing_and_damaged_packages_are_named(installed, monkeypatch):
    path = installed / "sources" / "spam_subjects" / "spam-1" / "1.json"
    path.write_text("{")
    with pytest.raises(UserError, match="spam_subjects is damaged"):
        texts.read("spam_subjects")
    monkeypatch.setenv("WORLD_MODELS_SOURCES", str(installed / "elsewhere"))
    with pytest.raises(UserError, match="make data"):
        texts.read("brown")


def test_all_text_packages_can_be_fetched_by_name():
    assert {package.name for package, _ in texts._SOURCES.values()} <= {package.name for package in packages.PACKAGES}
    assert len(packages.BROWN.wanted) == 501
