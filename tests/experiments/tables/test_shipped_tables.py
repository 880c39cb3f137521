"""The tables that are shipped: well formed, listed, and run at smoke scale."""

import json
import pathlib

import cv2
import numpy as np
import pytest
from conftest import stripes, write_dataset, write_stripes
from toy_table import made

from experiments.runs.jobs import Runner
from experiments.tables import definition, job
from world_models.data.episodes import encode
from world_models.data.sources import collection, digits, pictures, texts


def test_shipped_tables_are_well_formed_and_listed():
    known = [
        "action_injection",
        "bert",
        "dreamer_steps",
        "drift",
        "few_labels",
        "forcing",
        "four_rooms",
        "four_rooms_embedding",
        "frame_conditioning",
        "giant_maze_embedding",
        "latent_space",
        "mae",
        "maze_distance",
        "ogbench_mazes",
        "planner_seeds",
        "prediction_target",
        "pretext",
        "scaling_law",
        "shortcut",
        "stability",
        "two_rooms",
        "two_rooms_terms",
        "video_data",
        "video_masks",
    ]
    assert definition.names() == known
    listed = definition.list_tables()
    for name in definition.names():
        found = definition.load(name)
        assert name in listed
        assert {"smoke", "cpu", "gpu", "paper"} == set(found.scales)
        module = definition.load_module(definition.FOLDER / f"{name}.py")
        assert "Command: python launch.py table" in module.__doc__
        for scale, what in found.scales.items():
            keys = set()
            for row in found.rows if what.config else ():
                keys.add(json.dumps(definition.resolve(found, scale, row, 0).to_dict(), default=str, sort_keys=True))
            assert len(keys) == (len(found.rows) if what.config else 0)
        values = {row: dict.fromkeys(found.columns, float(i + 1)) for i, row in enumerate(found.rows)}
        for conclusion in found.conclusions:
            assert isinstance(conclusion.holds(values), bool)


@pytest.mark.parametrize("name", definition.names(definition.FOLDER))
def test_published_numbers_share_a_panel_with_ours_only_in_a_unit(name):
    """Without a unit there is no telling whether two distances are of the same features."""
    table = definition.load(name, definition.FOLDER)
    pairs = [(ours, table.published_columns[key]) for ours in table.columns.values() for key in ours.published]
    assert not [theirs.title for ours, theirs in pairs if not ours.unit and not theirs.unit]


def test_a_power_law_of_smaller_sizes_predicts_the_largest():
    table = definition.load("scaling_law")
    law = {row: {"compute": 10.0**i, "loss": 3 * 10 ** (-0.2 * i), "psnr_16": i} for i, row in enumerate(table.rows)}
    held = lambda rows: [conclusion.holds(rows) for conclusion in table.conclusions]
    assert held(law) == [True] * 4
    said = "loss falls with compute to the power -0.200; the largest is +0.0 % off its prediction, "
    assert table.headline(law) in [f"{said}{sign}0.0 % with a constant in the law" for sign in "+-"]
    off = law | {"size 5": {**law["size 5"], "loss": 1.1 * law["size 5"]["loss"]}}
    assert held(off) == [True, False, False, True]
    assert "+10.0 % off" in table.headline(off)
    # A loss that cannot fall below a constant follows the second law alone.
    above = {row: {**values, "loss": 1 + values["loss"]} for row, values in law.items()}
    assert held(above) == [True, False, True, True]
    power, offset = (make(above) for make in table.laws.values())
    for row in list(above)[:4]:
        assert offset(above[row]["compute"]) == pytest.approx(above[row]["loss"], rel=1e-3)
    assert abs(power(1.0) - above["size 1"]["loss"]) > 0.05
    with pytest.raises(KeyError):  # a row that was not run
        table.headline({row: law[row] for row in list(law)[1:]})
    with pytest.raises(KeyError):  # no law
        table.headline(law | {"size 1": {**law["size 1"], "loss": 0.0}})
    worse = {row: {**values, "loss": 1 / values["loss"]} for row, values in law.items()}
    assert held(worse)[0] is False
    assert "nan" not in table.headline(worse)


@pytest.fixture(scope="module")
def long_square_data(tmp_path_factory):
    """Episodes long enough for the longest horizon of the tables at smoke scale."""
    lengths = {"train": [80, 80], "validation": [80], "test": [80, 80]}
    return write_dataset(tmp_path_factory.mktemp("long"), lengths)


def toy_texts(kind):
    """What stands in for the texts of a package."""
    rng = np.random.default_rng(0)
    words = {"a": "at", "dog": "nn", "barks": "vbz", "cat": "nn", "sleeps": "vbz", ".": "."}
    lines = lambda: [rng.choice(list(words), 8) for _ in range(6)]
    documents = [lines() for _ in range(40)]
    if kind == "brown":
        join = lambda document, of: "\n".join(" ".join(map(of, line)) for line in document)
        documents = [(join(own, str), join(own, words.get)) for own in documents]
        return texts.Corpus([text for text, _ in documents], ["news"] * 40, [tags for _, tags in documents])
    labels = [("ham", "spam")[i % 2] for i in range(700)]
    return texts.Corpus([f"{' '.join(rng.choice(list(words), 4))} {i}" for i in range(700)], labels)


def toy_pictures():
    """What stands in for the emoji of a package: colours with a class each."""
    color = lambda i: np.full((64, 64, 3), (25 * (i % 10), 100, 200), np.uint8)
    example = lambda i: {"image": encode(color(i), (64, 64)), "label": i % 10}
    splits = {"train": collection.Split(60, example), "test": collection.Split(30, example)}
    return collection.Collection("emoji", "", pictures._features((64, 64), [*"0123456789"]), splits, "", "")


# Columns that a row of the table `bert` cannot have at this scale: its model has no such head.
WITHOUT = {"without next sentence": ("next",), "without masked words": ("bits", "masked")}
# The same of `pretext`, by what its rows' names begin or end with.
PRETEXT_WITHOUT = {
    "fashion": ("ridge_speed", "ridge_digit", "tracking", "colors"),
    "emoji": ("ridge_speed", "ridge_digit", "tracking"),
    "motion": ("colors",),
    "relative position": ("colors",),
    "exemplar": ("colors",),
    "triplets": ("colors",),
    "supervised": ("colors",),
    "colorization": ("task_chance",),
    "masked autoencoder": ("colors", "task", "tracking"),
    "order": ("task_chance",),
    "direction": (),
    "colour tracking": ("task_chance",),
    "next frame": ("task",),
}
# Columns of the table `stability` at horizons beyond the short futures of this scale.
BEYOND = ("drift_100", "drift_500", "following_100", "following_500")
MASKED_AUTOENCODERS = ("few_labels", "mae", "video_data", "video_masks")
LABELS = np.arange(30) % 10


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", definition.names())
def test_every_table_runs_at_smoke_scale(name, long_square_data, tmp_path, monkeypatch):
    data = long_square_data
    if definition.load(name).command == "plan":  # in a world that its data were recorded in
        data = ""
    elif name in ("mae", "few_labels"):
        data = write_stripes(tmp_path / "stripes", {"train": 330, "test": 30})
    elif name in (*MASKED_AUTOENCODERS, "pretext"):  # rows with data sets of their own
        data = ""  # of what stands in for an installed package
        glyphs = np.stack([cv2.resize(stripes(i), (28, 28))[..., None] for i in range(30)])
        monkeypatch.setattr(digits, "read", lambda kind, seed: dict.fromkeys(("train", "test"), (glyphs, LABELS)))
        monkeypatch.setattr(pictures, "emoji", lambda *_: toy_pictures())
    elif name == "stability":  # in three simulators
        data = ""
        pytest.importorskip("ale_py")
        pytest.importorskip("Box2D")
    elif name == "bert":
        data = ""
        monkeypatch.setattr(texts, "read", toy_texts)

    def in_this_process(jobs, folder, tick):
        """Spares the start of a process a job; another test has real ones."""
        for one in jobs:
            tick({one.name: "running"})
            job.run_job(pathlib.Path(one.command[-1]))
        return {one.name: 0 for one in jobs}

    path = made(name, tmp_path, scale="smoke", dataset=str(data), runner=Runner(in_this_process))
    found = json.loads((path.parent / "table.json").read_text())
    assert {m["status"] for row in found["rows"] for m in row["members"]} == {"done"}
    for row in found["rows"]:
        # Of a few images of ten classes none may be right.
        missing = {key for key, value in row["ours"].items() if value is None or (not value and name != "pretext")}
        expected = WITHOUT.get(row["name"], ()) if name == "bert" else BEYOND if name == "stability" else ()
        without = {key for key in row["ours"] if key in expected or key.rpartition("_")[0] in expected}
        if name == "pretext":
            expected = tuple(x for part in row["name"].split(": ") for x in PRETEXT_WITHOUT[part])
            without = {key for key in row["ours"] if key.startswith(expected)}
        assert {key for key in missing if not key.endswith("_minilm")} == without
    assert found["not_run"] == []
    assert all(c["holds"] is not None for c in found["statement"]["conclusions"] if "500" not in c["text"])
