"""What is shown of tables: Markdown, CSV, LaTeX and plots, and the pages of the committed results."""

import csv
import io
import itertools
import json
import pathlib
import shutil

import pytest
from matplotlib.transforms import Bbox
from toy_table import edited, made, measured, planned

from experiments.reports import results
from experiments.runs.files import ROOT
from experiments.tables import collect, definition, page, render
from experiments.tables import members as plan
from experiments.tables import run as table_module
from experiments.tables.plot import draw
from experiments.tables.summary import summarize
from world_models.core.errors import UserError

COMMITTED = [table for group in results.read(ROOT / "results").values() for table in group]
NAMES = [f"{table['table']}-{table['scale']}" for table in COMMITTED]


@pytest.fixture
def summary(tables, square_data, tmp_path):
    """The toy table, measured with two seeds."""
    found, whole = planned(tables, tmp_path, square_data, seeds=2)
    for member in whole.members:
        measured(member, 10.25 + member.seed)
    return summarize(found, collect.collect(found, "smoke", whole, {}))


def test_forms_agree_and_escape(summary, tmp_path):
    path = render.write(tmp_path / "out", summary)
    text = path.read_text()
    assert "| two | 20† |" in text
    for words in (
        "Why?",
        "ImageNet",
        "toy data",
        "page 3",
        "revision abc, on 1 x toy, 2026-01-01",
        "a baseline for PSNR",
    ):
        assert words in text
    lines = list(csv.DictReader(io.StringIO((tmp_path / "out" / "table.csv").read_text())))
    assert len(lines) == 8
    assert lines[3]["row"] == "two"
    assert float(lines[3]["psnr"]) == 11.25
    assert float(lines[3]["published_fid"]) == 20
    latex = (tmp_path / "out" / "table.tex").read_text()
    assert "Toy \\& Co" in latex
    assert latex.count("\\\\") == 1 + 4
    assert json.loads((tmp_path / "out" / "table.json").read_text()) == json.loads(json.dumps(summary))
    assert (tmp_path / "out" / "table.png").stat().st_size > 5000


def test_stale_and_missing_members_are_shown(tables, square_data, tmp_path, monkeypatch):
    found, old = planned(tables, tmp_path, square_data, seeds=2)
    for member in old.members:
        if member.row != "three":
            measured(member, 20.0)
    monkeypatch.setattr(plan, "of_code", lambda modules: "other code")
    found, new = planned(tables, tmp_path, square_data, seeds=2)
    text = page.as_markdown([summarize(found, collect.collect(found, "smoke", new, {}))], lambda table: "x.png")
    assert "20.00 (stale)" in text
    assert "three, seed 1: missing" in text
    assert "1 could not be tested" in text


def test_a_table_without_results_renders(tables, square_data, tmp_path):
    found, whole = planned(tables, tmp_path, square_data, seeds=1)
    text = render.write(tmp_path / "out", summarize(found, collect.collect(found, "smoke", whole, {}))).read_text()
    assert "| one | 30 | not run |" in text


def test_plots_show_every_row_and_no_seed_that_its_row_left_out(tables, square_data, tmp_path, monkeypatch):
    found, old = planned(tables, tmp_path, square_data, seeds=2)
    for member in old.members:
        measured(member, 10.0)
    monkeypatch.setattr(plan, "of_code", lambda modules: "other code")
    found, new = planned(tables, tmp_path, square_data, seeds=2)
    for member in new.members:
        if member.seed == 0:
            measured(member, 30.0)
    figure = draw(summarize(found, collect.collect(found, "smoke", new, {})))
    ours, published = figure.axes
    assert [label.get_text() for label in ours.get_yticklabels()] == list(found.rows)
    assert {float(x) for line in ours.lines for x in line.get_xdata()} == {30.0, 15.0}  # ours and its baseline
    assert {float(x) for line in published.lines for x in line.get_xdata()} == {30.0, 20.0, 10.0}


def test_a_table_says_what_its_plot_draws(tables, square_data, tmp_path):
    added = '"panels": ("copy",), "curve": ("far", "psnr"), "curve_at": ("far", "frame"),'
    edited(tables, ('"title": "Toy & Co",', f'"title": "Toy & Co", {added}'))
    found, whole = planned(tables, tmp_path, square_data, seeds=2)
    for i, member in enumerate(whole.members):
        measured(member, 10.0)
        if i < 4:  # the other rows have no curve
            content = json.loads(member.result.read_text())
            member.result.write_text(json.dumps(content | {"far": {"frame": [16, 32], "psnr": [9.0, i % 2]}}))
    panel, curves = draw(summarize(found, collect.collect(found, "smoke", whole, {}))).axes
    assert panel.get_xlabel().startswith("copy")
    assert [line.get_xydata().tolist() for line in curves.lines] == 2 * [[[16.0, 9.0], [32.0, 0.5]]]
    assert curves.get_yscale() == "linear"
    for member in whole.members[:2]:  # of the first row: the other's line would look like zero
        content = json.loads(member.result.read_text())
        member.result.write_text(json.dumps(content | {"far": {"frame": [16, 32], "psnr": [900.0, -1.0]}}))
    curves = draw(summarize(found, collect.collect(found, "smoke", whole, {}))).axes[1]
    assert (curves.get_yscale(), curves.get_ylim()[1] > 500) == ("symlog", True)
    with pytest.raises(UserError, match=r"panels\['fid'\] must be a column, one of 'psnr', 'copy'"):
        edited(tables, ('"panels": ("copy",)', '"panels": ("psnr", "fid")'))


@pytest.mark.parametrize("table", COMMITTED, ids=NAMES)
def test_no_interval_of_a_committed_result_leaves_the_possible_range(table):
    for row in table["rows"]:
        for key, column in table["columns"].items():
            cell, (least, greatest) = row["ours"][key], column["range"]
            if column["unit"] == "%":
                assert (least, greatest) == (0, 100)
            if cell and cell["low"] is not None:
                assert cell["low"] <= cell["mean"] <= cell["high"]
                assert least is None or least <= cell["low"]
                assert greatest is None or cell["high"] <= greatest


@pytest.mark.parametrize("table", COMMITTED, ids=NAMES)
def test_committed_results_render_with_bold_only_among_comparable_rows(table, tmp_path):
    text = page.as_markdown([table], lambda _: "x.png")
    render.as_latex(table)
    assert len(render.as_csv(table).splitlines()) == 1 + sum(len(row["members"]) for row in table["rows"])
    for key, column in table["columns"].items():
        for group in {row["group"] for row in table["rows"]}:
            cells = [row["ours"][key] for row in table["rows"] if row["group"] == group]
            marked = [cell for cell in cells if cell and cell["best"]]
            assert not marked or (not column["baseline_for"] and len(marked) < len(cells))
    origin = table["provenance"]
    assert origin["revision"][:10] in text
    assert origin["data_fingerprint"] in text
    assert all(f"| {conclusion['text']} |" in text for conclusion in table["statement"]["conclusions"])


def test_columns_are_drawn_against_each_other_with_the_laws_beside_them(tables, square_data, tmp_path):
    added = '"against": ("copy", "psnr"), "laws": {"twice": lambda rows: lambda x: 2 * x,'
    added += ' "never": lambda rows: rows["one"]["fid"]},'
    edited(tables, ('"title": "Toy & Co",', f'"title": "Toy & Co", {added}'))
    found, whole = planned(tables, tmp_path, square_data, seeds=2)
    for i, member in enumerate(whole.members[:6]):  # the last row is not run
        measured(member, 2.0 ** (i // 2 + 1))
    (axes,) = draw(summarize(found, collect.collect(found, "smoke", whole, {}))).axes
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    points = [line.get_xydata()[0].tolist() for line in axes.lines if line.get_marker() == "o"]
    assert points == [[1, 2], [2, 4], [4, 8]]
    assert "never" not in lines
    assert lines["twice"][:, 1] == pytest.approx(2 * lines["twice"][:, 0])
    assert lines["twice"][[0, -1], 0] == pytest.approx([1, 4])
    # Conclusions leave out what other code measured; so do the laws.
    edited(tables, ("lambda rows: lambda x: 2 * x", "lambda rows: lambda x: len(rows) * x"))
    found = definition.load("toy", tables)
    for member in whole.members[:2]:
        member.result.rename(member.result.with_name(f"{member.key}-older.json"))
    (axes,) = draw(summarize(found, collect.collect(found, "smoke", whole, {}))).axes
    (law,) = (line.get_xydata() for line in axes.lines if line.get_label() == "twice")
    assert law[:, 1] == pytest.approx(3 * law[:, 0])  # of four rows


@pytest.mark.parametrize("against", ['("copy",)', '("copy", "fid")'])
def test_only_columns_are_drawn_against_each_other(tables, against):
    with pytest.raises(UserError, match=r"against=.* must be two columns"):
        edited(tables, ('"title": "Toy & Co",', f'"title": "Toy & Co", "against": {against},'))


@pytest.mark.parametrize("table", COMMITTED, ids=NAMES)
def test_every_mark_of_a_legend_means_one_thing(table):
    for legend in draw(table).legends:
        shown = [(handle.get_marker(), handle.get_color()) for handle in legend.legend_handles]
        assert len(shown) == len(set(shown))


@pytest.mark.parametrize("table", COMMITTED, ids=NAMES)
def test_names_in_plots_do_not_overlap_and_lie_inside(table):
    figure = draw(table)
    figure.suptitle(table["title"])
    figure.draw_without_rendering()
    texts = [text for legend in figure.legends for text in legend.get_texts()] + [figure._suptitle]
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())  # a tick beyond it is not drawn
            texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        texts.append(axes.xaxis.label)
    boxes = [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
    assert not [pair for pair in itertools.combinations(boxes, 2) if _overlap(*pair)]
    for box in boxes:
        assert -1 <= box.x0 < box.x1 <= figure.bbox.width + 1
        assert -1 <= box.y0 < box.y1 <= figure.bbox.height + 1


def _overlap(one, other):
    """Whether two boxes share more than a pixel each way."""
    both = Bbox.intersection(one, other)
    return both is not None and both.width > 1 and both.height > 1


def test_axes_of_percent_go_no_further_than_a_margin():
    for table in COMMITTED:
        for axes in draw(table).axes:
            if "(%)" in axes.get_xlabel():
                assert -5 < axes.get_xlim()[0] < axes.get_xlim()[1] < 105


def test_the_pages_of_the_repository_say_what_its_results_say():
    made = results.pages(ROOT / "results", results.read(ROOT / "results"))
    assert made == {path.name: path.read_text() for path in (ROOT / "docs" / "results").glob("*.md")}
    results.update(ROOT, check=True)  # the README, too


def test_every_conclusion_of_a_paper_names_it():
    ours = ("our aim", "ours", "statistics", "reproduction", "issue")
    for name in definition.names():
        for conclusion in definition.load(name).conclusions:
            if conclusion.kind == "paper":
                assert not [word for word in ours if word in conclusion.source], (name, conclusion.text)


def test_the_page_of_the_shipped_weights_has_every_model_beside_its_baselines():
    text = (ROOT / "docs" / "results" / "weights.md").read_text()
    for folder in (path for path in (ROOT / "weights").iterdir() if path.is_dir()):
        found = json.loads((ROOT / "results" / f"weights_{folder.name}.json").read_text())
        trained = json.loads((folder / "provenance.json").read_text())
        assert found["provenance"]["trained_at"] == trained["revision"]
        rollouts, part = found["long_rollout"], text.partition(f"## {folder.name}\n")[2].partition("\n## ")[0]
        ends = [*rollouts["at"].values(), rollouts["last"]]
        drift = [value["drift"] for value in ends] + [value["distance"] for value in rollouts["baselines"].values()]
        assert " | ".join(f"{value:.4f}" for value in drift) in part
        assert " | ".join(f"{100 * value['motion']:.2f} %" for value in ends) in part
        assert f"{100 * rollouts['motion']['real']:.2f} % |" in part


def test_published_results_reach_the_pages_and_are_kept_in_step(tables, square_data, tmp_path, monkeypatch):
    for member in planned(tables, tmp_path, square_data, seeds=1)[1].members:
        measured(member, 10.0)
    root = tmp_path / "repository"
    monkeypatch.setattr(table_module, "RESULTS", root / "results")
    words = ["launch.py table", "toy", f"--workdir={tmp_path}", "--data", str(square_data), "--publish"]
    monkeypatch.setattr("sys.argv", words)
    request = {"scale": "smoke", "dataset": str(square_data), "folder": tables, "parallel": "none"}
    made("toy", tmp_path, publish=True, **request)
    kept = (root / "results" / "toy" / "smoke.json").read_text()
    assert str(tmp_path) not in kept
    assert json.loads(kept)["provenance"]["command"] == "launch.py table toy --publish"
    readme = root / "README.md"
    readme.write_text(f"before\n{results.BEGIN.replace('`', '')}{results.END}after\n")  # as it once was
    for name in ("demo.json", "weights_boxing.json"):
        shutil.copy(ROOT / "results" / name, root / "results")
    update = lambda **words: results.update(root, folder=tables, **words)
    with pytest.raises(UserError, match="make results"):
        update(check=True)
    update()
    total = "In all, 0 of 1 conclusions of papers and 0 of 1 hypotheses of ours that could be tested hold."
    assert total in readme.read_text()
    assert results.BEGIN in readme.read_text()
    docs = root / "docs" / "results"
    written = {"toy.md", "toy-smoke.png", "demo.md", "weights.md", "weights-boxing.png", "index.md"}
    assert {path.name for path in docs.iterdir()} == written
    assert "ImageNet, which is not here" in (docs / "toy.md").read_text()
    update(check=True)
    for change in (
        lambda: readme.write_text(readme.read_text().replace("0 of 1", "1 of 1")),
        lambda: (docs / "toy.md").write_text("other"),
        lambda: (docs / "old.md").write_text("left over"),
        lambda: (docs / "toy-smoke.png").unlink(),
        lambda: (docs / "weights-boxing.png").unlink(),
    ):
        change()
        with pytest.raises(UserError, match="make results"):
            update(check=True)
        update()
    pathlib.Path(root / "results" / "toy" / "smoke.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        update()
