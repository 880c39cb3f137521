"""What follows from the values of a table's members: intervals, the best cells, conclusions, and their statements."""

import pytest
from scipy import stats
from toy_table import edited, measured, planned

from experiments.tables import collect, page
from experiments.tables import members as plan
from experiments.tables.schema import Column, Row, Table
from experiments.tables.summary import summarize
from world_models.core.errors import UserError
from world_models.metrics.intervals import episode_bootstrap

PROVENANCE = {
    "measured_by": [],
    "versions": {},
    "seeds": [0],
    **dict.fromkeys(("command", "date", "revision", "device", "host_cores", "data_fingerprint"), ""),
}
PERCENT = {"unit": "%", "about": "", "better": "higher", "path": (), "range": (0.0, 100.0)}


def result_of(rows):
    """A result of {row: [(values, episodes), …]}, one pair a seed."""
    member = {"status": "done", "revision": "abc", "device": "toy", "date": "2026", "error": ""}
    return {
        "table": "toy",
        "scale": "cpu",
        "rows": [
            {
                "name": name,
                "curve": None,
                "members": [
                    {**member, "seed": seed, "values": values, "episodes": episodes}
                    for seed, (values, episodes) in enumerate(seeds)
                ],
            }
            for name, seeds in rows.items()
        ],
        "not_run": [],
        "provenance": {},
    }


def table_of(columns, rows):
    """A table of columns and rows without conclusions; `rows` are {name: group}."""
    scales = {"cpu": type("Scale", (), {"about": "here"})}
    rows = {name: Row({}, group=group) for name, group in rows.items()}
    texts = dict.fromkeys(("title", "paper", "number", "question", "about", "setting"), "")
    return Table("toy", **texts, command="eval", published_columns={}, columns=columns, rows=rows, conclusions=(),
                 scales=scales, headline=lambda values: "")  # fmt: skip


def best(summary, key):
    return [row["name"] for row in summary["rows"] if row["ours"][key] and row["ours"][key]["best"]]


def test_the_interval_of_a_cell_follows_from_what_is_stored():
    columns = {"rate": Column("rate", **PERCENT), "error": Column("error", "", "", "lower", (), range=(0.0, 1e9))}
    columns |= {"reward": Column("reward", "", "", "higher", (), scale=2.0)}
    rewards = [[1.0, 3.0, 4.0, 0.5], [2.0, 0.0, 7.0, 1.0]]
    seeds = [
        ({"rate": rate, "error": error, "reward": 2 * sum(each) / 4}, {"rate": 50, "reward": each})
        for rate, error, each in zip((40.0, 60.0), (1e-3, 3e-3), rewards)
    ]
    (row,) = summarize(table_of(columns, {"one": ""}), result_of({"one": seeds}))["rows"]
    rate, error, reward = (row["ours"][key] for key in columns)
    assert (rate["interval"], rate["mean"], rate["n"], rate["episodes"]) == ("proportion", 50, 2, 50)
    assert (error["interval"], error["episodes"]) == ("seeds", None)
    assert 0 < error["low"] < 2e-3 < error["high"]
    assert (reward["interval"], reward["episodes"]) == ("bootstrap", 4)
    expected = episode_bootstrap([[2 * value for value in each] for each in rewards])
    assert (reward["low"], reward["high"]) == (expected.low, expected.high)
    assert reward["mean"] == pytest.approx(expected.mean)


def test_with_one_seed_a_share_has_wilsons_interval_and_any_other_number_none():
    columns = {"rate": Column("rate", **PERCENT), "psnr": Column("PSNR", "dB", "", "higher", ())}
    columns |= {"listed": Column("rate", **PERCENT, scale=100.0)}
    seeds = [({"rate": 90.0, "psnr": 20.0, "listed": 75.0}, {"rate": 50, "listed": [1, 1, 0, 1]})]
    (row,) = summarize(table_of(columns, {"one": ""}), result_of({"one": seeds}))["rows"]
    wilson = stats.binomtest(45, 50).proportion_ci(method="wilson")
    assert (row["ours"]["rate"]["low"], row["ours"]["rate"]["high"]) == pytest.approx(
        (100 * wilson.low, 100 * wilson.high)
    )
    assert (row["ours"]["psnr"]["low"], row["ours"]["psnr"]["interval"]) == (None, "")
    summary = summarize(table_of(columns, {"one": ""}), result_of({"one": seeds}))
    text = page.as_markdown([summary | {"provenance": PROVENANCE}], lambda table: "x.png")
    assert "50 test examples, the same for every seed; interval over test examples only, of one seed (Wilson)" in text
    wilson = stats.binomtest(3, 4).proportion_ci(method="wilson")
    assert row["ours"]["listed"]["low"] == pytest.approx(100 * wilson.low)


def test_the_best_of_comparable_rows_is_marked_with_all_within_its_interval():
    columns = {"rate": Column("rate", **PERCENT), "base": Column("base", **PERCENT, baseline_for="rate")}
    rows = {"high": "a", "close": "a", "low": "a", "alone": "b", "even": "c", "equal": "c"}
    rates = {"high": 90.0, "close": 85.0, "low": 20.0, "alone": 99.0, "even": 50.0, "equal": 51.0}
    seeds = {name: [({"rate": rates[name], "base": rates[name]}, {"rate": 100})] for name in rows}
    summary = summarize(table_of(columns, rows), result_of(seeds))
    assert best(summary, "rate") == ["high", "close"]
    assert best(summary, "base") == []
    only = summarize(table_of(columns, dict.fromkeys(rows, "")), result_of({"high": seeds["high"]}))
    assert best(only, "rate") == []


def test_results_that_do_not_fit_the_definition_raise():
    table = table_of({"rate": Column("rate", **PERCENT)}, {"one": ""})
    with pytest.raises(UserError, match=r"rows\['two'\]"):
        summarize(table, result_of({"two": [({"rate": 1.0}, {})]}))
    with pytest.raises(UserError, match=r"columns\['other'\]"):
        summarize(table, result_of({"one": [({"other": 1.0}, {})]}))


def test_conclusions_of_papers_and_hypotheses_of_ours_are_counted_apart(tables, square_data, tmp_path):
    found, whole = planned(tables, tmp_path, square_data)
    psnr = {"one": (10, 11, 12), "two": (20, 21, 10), "three": (12, 13, 14), "ours": (1, 1, 1)}
    for member in whole.members:
        measured(member, psnr[member.row][member.seed])
    result = collect.collect(found, "smoke", whole, {})
    assert "ours" not in result["rows"][0]  # nothing derived is kept
    summary = summarize(found, result)
    one = summary["rows"][0]["ours"]["psnr"]
    # Student: t(0.975, 2) = 4.3027, standard deviation 1, three seeds.
    assert (one["mean"], one["n"]) == (11, 3)
    assert one["high"] - one["mean"] == pytest.approx(4.302653 / 3**0.5, rel=1e-5)
    (correlation,) = summary["statement"]["rank_correlations"]
    assert correlation == {"ours": "psnr", "published": "fid", "spearman": pytest.approx(0.5), "n": 3}
    first, second = summary["statement"]["conclusions"]
    assert (first["kind"], first["holds"], first["seeds_held"], first["seeds"]) == ("paper", True, 2, 3)
    assert (second["kind"], second["holds"], second["seeds_held"], second["seeds"]) == ("ours", False, 1, 3)
    assert summary["statement"]["counts"] == {
        "paper": {"held": 1, "tested": 1, "all": 1},
        "ours": {"held": 0, "tested": 1, "all": 1},
    }
    assert summary["statement"]["headline"] == "two reach 17 dB"
    assert result["not_run"] == []


def test_rows_of_several_groups_are_not_ranked_together(tables, square_data, tmp_path):
    found, whole = planned(tables, tmp_path, square_data, seeds=1)
    for i, member in enumerate(whole.members):
        measured(member, 10.0 + i)
    grouped = edited(tables, ('"one": {"overrides"', '"one": {"group": "other", "overrides"'))
    result = collect.collect(found, "smoke", whole, {})
    assert summarize(found, result)["statement"]["rank_correlations"]
    assert summarize(grouped, result)["statement"]["rank_correlations"] == []


def test_missing_damaged_and_stale_results_are_told_apart_and_never_mixed(tables, square_data, tmp_path, monkeypatch):
    found, old = planned(tables, tmp_path, square_data, seeds=2)
    for member in old.members:
        if member.row != "three":
            measured(member, 10.0 if member.row == "one" else 20.0, revision="old")
    monkeypatch.setattr(plan, "of_code", lambda modules: "other code")
    found, new = planned(tables, tmp_path, square_data, seeds=2)
    assert new.members[0].run != old.members[0].run
    measured(new.members[0], 30.0, revision="new")  # row one, seed 0
    ours = [m for m in new.members if m.row == "ours"]
    ours[0].result.parent.mkdir(parents=True)
    ours[0].result.write_text('{"horizon": [')
    summary = summarize(found, collect.collect(found, "smoke", new, {}))
    rows = {row["name"]: row for row in summary["rows"]}
    assert [m["status"] for m in rows["one"]["members"]] == ["done", "stale"]
    assert rows["one"]["ours"]["psnr"]["mean"] == 30.0
    assert (rows["one"]["ours"]["psnr"]["low"], rows["one"]["ours"]["psnr"]["n"]) == (None, 1)
    assert rows["two"]["stale"]
    assert rows["two"]["ours"]["psnr"]["mean"] == 20.0
    assert [m["status"] for m in rows["three"]["members"]] == ["missing", "missing"]
    assert "is damaged" in rows["ours"]["members"][0]["error"]
    # Row two is stale, so nothing that needs it can be concluded, and nothing is best.
    assert [c["holds"] for c in summary["statement"]["conclusions"]] == [None, None]
    assert summary["statement"]["counts"]["paper"] == {"held": 0, "tested": 0, "all": 1}
    assert summary["statement"]["rank_correlations"] == []
    assert best(summary, "psnr") == []
