"""What came out of a table's members: means over seeds, rank correlations, and which conclusions hold."""

import math
from typing import Any

import scipy.stats

from experiments.runs import workdir as workdirs
from experiments.tables import members as plans
from experiments.tables.definition import Column, Table
from world_models.core.errors import UserError
from world_models.metrics.intervals import student_interval

Values = dict[str, dict[str, float]]


def collect(table: Table, scale: str, plan: plans.Plan, failures: dict[str, str]) -> dict[str, Any]:
    """The content of table.json.

    Args:
      table, scale, plan: what was to be run.
      failures: why members failed, by member name.
    """
    rows, origins = [], []
    for name, row in table.rows.items():
        members = [_member(table, m, failures) for m in plan.members if m.row == name]
        origins += [m for m in members if m["status"] == "done"]
        curves = [m.pop("curve", None) for m in members]
        states = {m["status"] for m in members}
        stale = "stale" in states and "done" not in states
        shown = [m["values"] for m in members if m["status"] == ("stale" if stale else "done")]
        rows.append(
            {
                "name": name,
                "published": dict(row.published),
                "source": row.source,
                "unverified": row.unverified,
                "ours": {key: _summary([values[key] for values in shown]) for key in table.columns},
                "curve": _mean_curve([curve for m, curve in zip(members, curves) if m["status"] == "done"]),
                "stale": stale,
                "members": members,
            }
        )
    return {
        "table": table.name,
        "scale": scale,
        **{field: getattr(table, field) for field in ("title", "paper", "number", "about", "setting", "curve_title")},
        "data": table.scales[scale].about,
        "columns": {key: _column(column) for key, column in table.columns.items()},
        "published_columns": {key: vars(column) for key, column in table.published_columns.items()},
        "rows": rows,
        "statement": _statement(table, rows),
        "not_run": [f"{m.row}, seed {m.seed}" for m in plan.members if not m.result.exists()],
        "provenance": workdirs.provenance(
            code=plan.code,
            data=list(plan.data),
            data_fingerprint=", ".join(dict.fromkeys(plan.data.values())),
            seeds=sorted({m.seed for m in plan.members}),
            measured_by=sorted({_origin(m) for m in origins}),
        ),
    }


def _member(table: Table, member: plans.Member, failures: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "seed": member.seed,
        "run": member.run.name,
        "status": "missing",
        "values": {},
        "revision": "",
        "trained_at": "",
        "date": "",
        "device": "",
        "error": failures.get(member.name, ""),
    }
    try:
        result = plans.read_result(member)
        status = "done"
        if result is None:
            result, status = plans.stale_result(member), "stale"
        if result is None:
            return found | {"status": "failed" if found["error"] else "missing"}
        values = {key: _value(result, column) for key, column in table.columns.items()}
    except UserError as error:
        return found | {"status": "failed", "error": str(error)}
    origin = result.get("provenance", {})
    found |= {key: str(origin.get(key, "")) for key in ("revision", "trained_at", "date", "device")}
    curve = result
    for part in table.curve:
        curve = curve[part]
    return found | {"status": status, "values": values, "curve": (result["horizon"], curve) if table.curve else None}


def _origin(member: dict[str, Any]) -> str:
    """Which code made the numbers of a member, on what and when."""
    trained = member["trained_at"]
    earlier = f", trained at revision {trained}" if trained not in ("", member["revision"]) else ""
    return f"revision {member['revision']}{earlier}, on {member['device']}, {member['date'][:10]}"


def _value(result: dict[str, Any], column: Column) -> float | None:
    """The number of a column; None where it was not measured."""
    value: Any = result
    for part in column.path:
        if isinstance(part, int):
            horizons = result["horizon"]
            value = value[horizons.index(part)] if part in horizons else None
        else:
            value = (value or {}).get(part)
    return None if value is None else column.scale * float(value)


def _summary(values: list[float | None]) -> dict[str, float | int | None] | None:
    """Mean over seeds with Student's 95 % interval, which takes two seeds; None without a number."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    interval = student_interval(known)
    low, high = (None if math.isnan(bound) else bound for bound in (interval.low, interval.high))
    return {"mean": interval.mean, "low": low, "high": high, "n": len(known)}


def _mean_curve(curves: list[Any]) -> dict[str, list[float]] | None:
    curves = [curve for curve in curves if curve]
    if not curves:
        return None
    columns = zip(*(values for _, values in curves))
    means = [sum(column) / len(column) if None not in column else None for column in columns]
    return {"horizon": curves[0][0], "mean": means}


def _column(column: Column) -> dict[str, Any]:
    kept = ("title", "unit", "about", "better", "digits", "published")
    return {field: getattr(column, field) for field in kept}


def _statement(table: Table, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What ours say about the published ones; stale rows have no say."""
    fresh = [row for row in rows if not row["stale"]]
    correlations = [
        {"ours": key, "published": column.published, **_rank_correlation(table, fresh, key, column)}
        for key, column in table.columns.items()
        if column.published
    ]
    means = {row["name"]: _numbers({k: s and s["mean"] for k, s in row["ours"].items()}) for row in fresh}
    seeds = sorted({m["seed"] for row in fresh for m in row["members"]})
    by_seed = [_of_seed(fresh, seed) for seed in seeds]
    conclusions = []
    for conclusion in table.conclusions:
        verdicts = [v for v in (_holds(conclusion.holds, values) for values in by_seed) if v is not None]
        conclusions.append(
            {
                "text": conclusion.text,
                "source": conclusion.source,
                "holds": _holds(conclusion.holds, means),
                "seeds_held": sum(verdicts),
                "seeds": len(verdicts),
            }
        )
    statement = {"rank_correlations": correlations, "conclusions": conclusions}
    return statement | {"text": _sentences(table, statement)}


def _of_seed(rows: list[dict[str, Any]], seed: int) -> Values:
    return {
        row["name"]: _numbers(member["values"])
        for row in rows
        for member in row["members"]
        if member["seed"] == seed and member["status"] == "done"
    }


def _numbers(values: dict[str, float | None]) -> dict[str, float]:
    return {key: value for key, value in values.items() if value is not None}


def _holds(predicate: Any, values: Values) -> bool | None:
    """Whether a conclusion holds; None where a number that it asks for is not there."""
    try:
        return bool(predicate(values))
    except KeyError:
        return None


def _rank_correlation(table: Table, rows: list[dict[str, Any]], key: str, column: Column) -> dict[str, Any]:
    """Spearman's, turned so that 1 means the same order from best to worst."""
    pairs = [
        (row["ours"][key]["mean"], row["published"][column.published])
        for row in rows
        if row["ours"][key] and column.published in row["published"]
    ]
    if len(pairs) < 3 or any(len(set(side)) < 2 for side in zip(*pairs)):
        return {"spearman": None, "n": len(pairs)}
    sign = 1 if column.better == table.published_columns[column.published].better else -1
    return {"spearman": sign * float(scipy.stats.spearmanr(*zip(*pairs)).statistic), "n": len(pairs)}


def _sentences(table: Table, statement: dict[str, Any]) -> list[str]:
    sentences = []
    for found in statement["rank_correlations"]:
        ours, published = table.columns[found["ours"]].title, table.published_columns[found["published"]].title
        if found["spearman"] is not None:
            sentences.append(
                f"Rank correlation of our {ours} with the published {published}: {found['spearman']:+.2f} over "
                f"{found['n']} rows (+1: the same order from best to worst)."
            )
    verdicts = [c["holds"] for c in statement["conclusions"]]
    tested = [v for v in verdicts if v is not None]
    if tested:
        sentences.append(f"{sum(tested)} of {len(tested)} published conclusions that could be tested hold in ours.")
    if len(tested) < len(verdicts):
        sentences.append(f"{len(verdicts) - len(tested)} could not be tested: rows are missing.")
    return sentences
