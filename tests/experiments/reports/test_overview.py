"""The page of the command `report`: what it finds, says, escapes and survives."""

import base64
import hashlib
import html.parser
import json
import pathlib
import re
import urllib.parse

import pytest

from experiments.reports.overview.build import build
from experiments.reports.overview.find import find
from world_models.core.errors import UserError

NASTY = "a</script><b>&\"'"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def run(folder, steps=5, **config):
    write(folder / "config.json", {"experiment": "toy", "seed": 3, "train": {"num_steps": 9}, "note": NASTY, **config})
    write(folder / "provenance.json", {"revision": "0123456789abcdef", "data": "/data/cars", "device": "1 x toy"})
    lines = [{"step": i + 1, "train/loss": 1 / (i + 1)} for i in range(steps)]
    lines.append({"step": steps, "eval/held_out/loss": 0.5, "train/other": None})
    write(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 6, "tra')


def table(folder, **changes):
    ours = {"mean": 20.0, "low": 19.5, "high": 20.5, "n": 3}
    member = {"seed": 0, "run": "0a1b2c", "status": "done", "values": {"psnr": 20.0}, "error": ""}
    late = member | {"status": "failed", "error": NASTY}
    rows = [
        {"name": "new", "published": {"fid": 30.0}, "source": "page 3", "unverified": True, "stale": False,
         "ours": {"psnr": ours}, "members": [member]},
        {"name": "old", "published": {}, "source": "", "unverified": False, "stale": True,
         "ours": {"psnr": ours}, "members": [late]},
        {"name": "none", "published": {}, "source": "", "unverified": False, "stale": False,
         "ours": {"psnr": None}, "members": []},
    ]  # fmt: skip
    conclusion = {
        "text": "new beats old",
        "kind": "paper",
        "source": "page 4",
        "holds": False,
        "seeds_held": 1,
        "seeds": 3,
    }
    content = {
        "table": "toy", "scale": "cpu", "title": NASTY, "paper": "Nobody 2020", "number": "Table 1", "about": "About.",
        "setting": "ImageNet", "data": "stand-in squares", "columns": {"psnr": {"title": "PSNR", "unit": "dB",
        "better": "higher", "digits": 2, "about": "how", "published": "fid"}}, "published_columns": {"fid": {
        "title": "FID", "better": "lower", "digits": 2}}, "rows": rows, "provenance": {"revision": "abc"},
        "statement": {"rank_correlations": [], "conclusions": [conclusion], "text": ["A sentence."]}, "not_run": [],
    }  # fmt: skip
    write(folder / "table.json", content | changes)
    (folder / "table.png").write_bytes(b"png")
    for kind in ("md", "csv", "tex"):
        (folder / f"table.{kind}").write_text("")


@pytest.fixture
def folder(tmp_path):
    """Runs at two depths, one of them a table's; a table; a sweep; futures; and a folder that is to be skipped."""
    root = tmp_path / "my runs"
    run(root / "first #1")
    run(root / "tables" / "runs" / "0a1b2c", steps=2000)
    run(root / "first #1" / "checkpoints" / "hidden")
    table(root / "tables" / "toy" / "cpu")
    made = root / "first #1" / "imagine"
    psnr = {"imagined": [20.0, 19.0], "copy_last": [10.0, None]}
    write(made / "metrics.json", {"horizon": [1, 2], "psnr_changed": psnr, "step": 5})
    for name in ("strip.png", "futures.mp4", "report.html"):
        (made / name).write_bytes(b"x")
    members = [
        {"name": "a", "workdir": "members/a", "overrides": {"x": 1}, "status": "done", "value": 2.0, "error": ""}
    ]
    sweep = {
        "config": "configs/toy.py",
        "metric": "m",
        "better": "lower",
        "fields": ["x"],
        "members": members,
        "best": "a",
    }
    write(root / "sweep" / "sweep.json", sweep)
    return root


class Page(html.parser.HTMLParser):
    """Texts, links and the data of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.texts, self.tags, self._inside, self.data = [], [], [], None, ""
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self._inside = "data" if attrs.get("id") == "data" else tag
        self.links += [attrs[name] for name in ("src", "href") if name in attrs]

    def handle_data(self, text):
        if self._inside == "data":
            self.data += text
        elif self._inside not in ("style", "script"):
            self.texts.append(text)

    def handle_endtag(self, tag):
        self._inside = None


def test_everything_is_found_and_links_lead_to_files(folder):
    path = build(folder)
    assert path == folder / "index.html"
    page = Page(path)
    said = " ".join(page.texts)
    for words in ("first #1", "tables/runs/0a1b2c", "toy cpu: new, seed 0", "Nobody 2020", "stand-in squares",
                  "ImageNet", "30†", "stale", "not run", "does not hold", "1 of 3 seeds", "A sentence.", "best",
                  "configs/toy.py", "5 of 9", "0123456789", "20.00", "19.00"):  # fmt: skip
        assert words in said, words
    assert "hidden" not in said
    local = [link for link in page.links if not link.startswith("#")]
    assert len(local) == 4 + 1 + 3
    for link in local:
        assert (folder / urllib.parse.unquote(link)).exists(), link


def test_nothing_in_the_data_becomes_markup(folder):
    page = Page(build(folder))
    assert page.tags.count("script") == 2
    assert any(NASTY in text for text in page.texts)
    curves = json.loads(page.data)
    assert [curve["name"] for curve in curves] == ["first #1", "tables/runs/0a1b2c"]
    losses = curves[1]["series"]["train/loss"]
    assert len(losses) <= 401
    assert (losses[0], losses[-1]) == ([1, 1.0], [2000, 1 / 2000])


def test_what_is_text_where_numbers_are_expected_is_escaped_or_damaged(folder):
    evil = "<img src=x onerror=alert(1)>"
    run(folder / "seed", seed=evil)
    run(folder / "steps", train={"num_steps": evil})
    for name, metrics in (("first #1", {"step": evil}), ("seed", {"horizon": [evil]})):
        psnr = {"imagined": [1.0], "copy_last": [None]}
        write(folder / name / "imagine" / "metrics.json", {"horizon": [1], "psnr_changed": psnr} | metrics)
    page = Page(build(folder))
    assert page.tags.count("img") == 2  # of the table and of the futures
    assert evil in " ".join(page.texts)
    assert "steps : ValueError" in " ".join(page.texts)


def test_only_the_pages_own_script_and_style_can_run(folder):
    text = build(folder).read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (inner,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{tag}-src &#39;sha256-{digest}&#39;" in policy.replace("'", "&#39;")
    assert not re.search(r"<[^>]* (style|on\w+)=", text)


def test_a_table_without_rows_and_numbers_that_are_not_finite_stop_nothing(folder):
    write(folder / "odd" / "table.json", {"rows": 3})
    run(folder / "nan")
    write(folder / "nan" / "metrics.jsonl", '{"step": 1, "train/loss": NaN}\n[]\n{"step": 2, "train/loss": 1.0}\n')
    page = Page(build(folder))
    assert "odd" in " ".join(page.texts)
    (series,) = (curve["series"] for curve in json.loads(page.data) if curve["name"] == "nan")
    assert series == {"train/loss": [[2, 1.0]]}


def test_reconstructions_are_shown_without_horizons(folder):
    write(folder / "first #1" / "imagine" / "metrics.json", {"psnr": {"mean_frame": 3.0}, "step": 77})
    (folder / "first #1" / "imagine" / "reconstructions.png").write_bytes(b"x")
    page = Page(build(folder))
    assert "Could not be read" not in " ".join(page.texts)
    assert any(link.endswith("reconstructions.png") for link in page.links)
    assert "trained for 77 of 9 steps" in " ".join(page.texts)


def test_a_card_says_how_far_the_run_was_trained_and_starts_with_what_moves(folder):
    made = folder / "first #1" / "imagine"
    for name in ("futures.mp4", "reconstructions.mp4"):
        for old in ("futures.mp4", "reconstructions.mp4"):
            (made / old).unlink(missing_ok=True)
        (made / name).write_bytes(b"x")
        text = build(folder).read_text()
        card = text[text.index('class="cards"') :]
        assert "trained for 5 of 9 steps" in card
        assert re.search(rf'<video autoplay [^>]*muted [^>]*src="[^"]*/{name}"', card)
        assert card.index("trained for") < card.index("<video") < card.index("<img")
        # A wide picture says that it scrolls, also to those who use a keyboard or a screen reader.
        assert re.search(r'class="scroll wide" tabindex="0" role="region" aria-label="[^"]+"><p class="hint"', card)


def test_damaged_files_are_named_and_the_rest_is_shown(folder):
    write(folder / "broken" / "config.json", '{"experiment": ')
    run(folder / "cut", steps=1)
    write(folder / "cut" / "imagine" / "metrics.json", "[]")
    table(folder / "tables" / "other" / "cpu", rows=[{"name": "half"}])
    page = Page(build(folder))
    said = " ".join(page.texts)
    assert "Could not be read" in said
    for path in ("broken/config.json", "cut/config.json", "tables/other/cpu"):
        assert path in said
    assert "Nobody 2020" in said


def test_empty_and_missing_folders_raise_an_error(tmp_path):
    with pytest.raises(UserError, match="--workdir="):
        build(tmp_path / "none")
    with pytest.raises(UserError, match="--workdir="):
        build(tmp_path)
    assert not list(tmp_path.iterdir())


def test_runs_without_metrics_are_listed(tmp_path):
    write(tmp_path / "new" / "config.json", {"experiment": "toy"})
    assert find(tmp_path).runs[0]["step"] == 0
    assert "new" in " ".join(Page(build(tmp_path)).texts)
    # The page of one run, in its own folder, names that folder.
    assert "new" in Page(build(tmp_path / "new")).texts


def test_building_a_page_needs_no_jax():
    import subprocess
    import sys

    script = "import sys, experiments.reports.overview.build; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], cwd=pathlib.Path(__file__).resolve().parents[3], check=True)
