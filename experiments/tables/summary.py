"""What follows from the members' values: means with intervals, the best of comparable rows, which conclusions hold.

All of it is computed whenever a table is rendered, with the titles of today's definition, so kept results need nothing
but every member's values and numbers of episodes.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import scipy.stats

from experiments.tables.schema import Column, Table, Values
from world_models.core.errors import UserError
from world_models.metrics.intervals import episode_bootstrap, proportion_interval, student_interval

KINDS = {"paper": "conclusions of the paper", "ours": "hypotheses of ours"}


def summarize(table: Table, result: Mapping[str, Any]) -> dict[str, Any]:
    """The content of table.json: all that is shown of a table.

    Args:
      table: its definition.
      result: as `collect` made it.

    Raises:
      UserError: if the result has rows or columns that the table does not define.
    """
    given = {row["name"]: row for row in result["rows"]}
    measured = {key for row in result["rows"] for member in row["members"] for key in member["values"]}
    for part, names, known in (("rows", given, table.rows), ("columns", measured, table.columns)):
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise UserError(f"results of {table.name}: {part}[{unknown[0]!r}] must be defined in configs/tables/.")
    rows = [_row(table, name, given.get(name, {"members": [], "curve": None})) for name in table.rows]
    for key, column in table.columns.items():
        if not column.baseline_for:
            _mark_best(rows, key, column)
    return {
        "table": table.name,
        "scale": result["scale"],
        **{name: getattr(table, name) for name in ("title", "paper", "number", "question", "about", "setting")},
        "panels": list(table.panels),
        "curve_title": table.curve_title,
        "against": _against(table, rows),
        "samples": "episodes" if table.command == "plan" else "test examples",
        "data": table.scales[result["scale"]].about,
        "columns": {key: _column(column) for key, column in table.columns.items()},
        "published_columns": {key: vars(column) for key, column in table.published_columns.items()},
        "rows": rows,
        "statement": _statement(table, rows),
        "not_run": result["not_run"],
        "provenance": result["provenance"],
    }


def _row(table: Table, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    row, members = table.rows[name], given["members"]
    states = {member["status"] for member in members}
    stale = "stale" in states and "done" not in states
    shown = [member for member in members if member["status"] == ("stale" if stale else "done")]
    return {
        "name": name,
        **{field: getattr(row, field) for field in ("source", "unverified", "group")},
        "published": dict(row.published),
        "ours": {key: _cell(shown, key, column) for key, column in table.columns.items()},
        "curve": given["curve"],
        "stale": stale,
        "members": members,
    }


def _against(table: Table, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The two columns that are drawn against each other, and points of the lines beside them, by label."""
    if not table.against:
        return None
    x, y = table.against
    known = [row["ours"][x]["mean"] for row in rows if row["ours"][x] and row["ours"][x]["mean"] > 0]
    points, laws = np.geomspace(min(known), max(known), 50) if known else [], {}
    for label, law in table.laws.items():
        if function := _value(law, _means(row for row in rows if not row["stale"])):
            laws[label] = [[float(point), float(function(point))] for point in points]
    return {"x": x, "y": y, "laws": laws}


def _means(rows: Iterable[dict[str, Any]]) -> Values:
    """Our means by row and column."""
    return {row["name"]: {key: cell["mean"] for key, cell in row["ours"].items() if cell is not None} for row in rows}


def _column(column: Column) -> dict[str, Any]:
    kept = ("title", "unit", "about", "better", "digits", "published", "baseline_for")
    bounds = [None if math.isinf(bound) else bound for bound in column.range]
    return {name: getattr(column, name) for name in kept} | {"range": bounds}


def _cell(members: list[Mapping[str, Any]], key: str, column: Column) -> dict[str, Any] | None:
    """Mean over seeds with its 95 % interval; None without a number.

    `interval` names its kind: "proportion" and "bootstrap" are over episodes and seeds (of one seed, over its episodes
    alone), "seeds" is over seeds alone.
    """
    known = [member for member in members if member["values"].get(key) is not None]
    if not known:
        return None
    values = [member["values"][key] for member in known]
    episodes = [member.get("episodes", {}).get(key) for member in known]
    lists = [np.asarray(found, float) for found in episodes if isinstance(found, list)]
    counts = {len(found) if isinstance(found, list) else found for found in episodes}
    count = counts.pop() if len(counts) == 1 else None
    least, greatest = column.range
    if count and (not lists or all(np.isin(found, (0, 1)).all() for found in lists)):
        kind, rates = "proportion", [(value - least) / (greatest - least) for value in values]
        found = proportion_interval(np.clip(rates, 0, 1), count)
        low, high = (least + (greatest - least) * bound for bound in (found.low, found.high))
    elif count:
        kind, found = "bootstrap", episode_bootstrap(column.scale * np.stack(lists))
        low, high = found.low, found.high
    else:
        kind, found = "seeds", student_interval(values, column.range)
        low, high = found.low, found.high
    mean = sum(values) / len(values)
    cell = {"mean": mean, "low": None, "high": None, "n": len(values), "episodes": count, "interval": "", "best": False}
    return cell if math.isnan(low) else cell | {"low": min(low, mean), "high": max(high, mean), "interval": kind}


def _mark_best(rows: list[dict[str, Any]], key: str, column: Column) -> None:
    """Marks, among the comparable rows, the best mean and all within its interval; none where these are all rows."""
    for group in {row["group"] for row in rows}:
        cells = [row["ours"][key] for row in rows if row["group"] == group and row["ours"][key] and not row["stale"]]
        if len(cells) < 2:
            continue
        best = (max if column.better == "higher" else min)(cells, key=lambda cell: cell["mean"])
        low, high = (best["mean"] if best[end] is None else best[end] for end in ("low", "high"))
        tied = [cell for cell in cells if low <= cell["mean"] <= high]
        for cell in tied if len(tied) < len(cells) else ():
            cell["best"] = True


def _statement(table: Table, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What ours say about the conclusions; rows whose results are stale are left out."""
    fresh = [row for row in rows if not row["stale"]]
    means = _means(fresh)
    seeds = sorted({member["seed"] for row in fresh for member in row["members"]})
    by_seed = [_of_seed(fresh, seed) for seed in seeds]
    conclusions = []
    for conclusion in table.conclusions:
        verdicts = [verdict for values in by_seed if (verdict := _value(conclusion.holds, values)) is not None]
        conclusions.append(
            {
                "text": conclusion.text,
                "kind": conclusion.kind,
                "source": conclusion.source,
                "holds": _value(conclusion.holds, means),
                "seeds_held": sum(map(bool, verdicts)),
                "seeds": len(verdicts),
            }
        )
    counts = {kind: _count([c["holds"] for c in conclusions if c["kind"] == kind]) for kind in KINDS}
    statement = {"rank_correlations": _rank_correlations(table, fresh), "conclusions": conclusions, "counts": counts}
    statement["rankings"] = [_ranking(table, found) for found in statement["rank_correlations"]]
    statement["headline"] = _value(table.headline, means) or ""
    return statement | {"text": [*map(count_sentence, KINDS, counts.values()), *statement["rankings"]]}


def _of_seed(rows: list[dict[str, Any]], seed: int) -> Values:
    return {
        row["name"]: {key: value for key, value in member["values"].items() if value is not None}
        for row in rows
        for member in row["members"]
        if member["seed"] == seed and member["status"] == "done"
    }


def _value(function: Any, values: Values) -> Any:
    """What a function of the numbers gives; None where one that it asks for is missing."""
    try:
        return function(values)
    except KeyError:
        return None


def _count(verdicts: list[bool | None]) -> dict[str, int]:
    tested = [verdict for verdict in verdicts if verdict is not None]
    return {"held": sum(map(bool, tested)), "tested": len(tested), "all": len(verdicts)}


def _rank_correlations(table: Table, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Spearman's, with the sign that makes 1 the same ranking from best to worst; none across groups of rows."""
    found = []
    for key, column in table.columns.items():
        for name in column.published:
            both = [row for row in rows if row["ours"][key] and name in row["published"]]
            pairs = [(row["ours"][key]["mean"], row["published"][name]) for row in both]
            varied = len(pairs) > 2 and all(len(set(side)) > 1 for side in zip(*pairs))
            if varied and len({row["group"] for row in rows}) == 1:
                sign = 1 if column.better == table.published_columns[name].better else -1
                spearman = sign * float(scipy.stats.spearmanr(*zip(*pairs)).statistic)
                found.append({"ours": key, "published": name, "spearman": spearman, "n": len(pairs)})
    return found


def _ranking(table: Table, found: dict[str, Any]) -> str:
    ours, published = table.columns[found["ours"]].title, table.published_columns[found["published"]].title
    return (
        f"Rank correlation of our {ours} with the published {published}: {found['spearman']:+.2f} over {found['n']} "
        "rows (+1: the same ranking)."
    )


def count_sentence(kind: str, count: Mapping[str, int]) -> str:
    """How many conclusions of a kind hold, in words."""
    if not count["all"]:
        return f"This table tests no {KINDS[kind]}."
    left = count["all"] - count["tested"]
    untested = f" {left} could not be tested: rows are missing." if left else ""
    return f"{count['held']} of {count['tested']} {KINDS[kind]} that could be tested hold.{untested}"
