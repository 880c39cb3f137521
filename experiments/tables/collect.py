"""What the members of a table have measured, as it is kept: every member's values, nothing derived from them."""

from typing import Any

from experiments.runs import workdir as workdirs
from experiments.tables import members as plans
from experiments.tables.schema import Column, Table
from world_models.core.errors import UserError


def collect(table: Table, scale: str, run: plans.TableRun, failures: dict[str, str]) -> dict[str, Any]:
    """The content of results/<table>/<scale>.json.

    Args:
      table, scale, run: what was to be run.
      failures: why members failed, by member name.
    """
    rows = []
    for name in table.rows:
        members = [_member(table, member, failures) for member in run.members if member.row == name]
        curves = [(member.pop("curve", None), member["status"]) for member in members]
        rows.append(
            {
                "name": name,
                "members": members,
                "curve": _mean_curve([curve for curve, status in curves if status == "done"]),
            }
        )
    return {
        "table": table.name,
        "scale": scale,
        "rows": rows,
        "not_run": not_run(rows),
        "provenance": workdirs.provenance(
            code=run.code,
            data=list(run.data),
            data_fingerprint=", ".join(dict.fromkeys(run.data.values())),
            seeds=sorted({member.seed for member in run.members}),
            measured_by=measured_by(rows),
        ),
    }


NOTHING = {
    "status": "missing",
    "values": {},
    "episodes": {},
    "revision": "",
    "trained_at": "",
    "date": "",
    "device": "",
    "error": "",
}


def unmeasured(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what failed, or what other code has measured."""
    return {**row, "members": [{**member, **NOTHING} for member in row["members"]], "curve": None}


def done(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The members of a row that have been measured by today's code."""
    return [member for member in row["members"] if member["status"] == "done"]


def not_run(rows: list[dict[str, Any]]) -> list[str]:
    """The names of all other members."""
    return [f"{row['name']}, seed {m['seed']}" for row in rows for m in row["members"] if m["status"] != "done"]


def measured_by(rows: list[dict[str, Any]]) -> list[str]:
    """By what code, on what device and when members were measured."""
    return sorted({_origin(member) for row in rows for member in done(row)})


def _member(table: Table, member: plans.Member, failures: dict[str, str]) -> dict[str, Any]:
    where = {"seed": member.seed, "run": member.run.name, "address": member.result.stem}
    found = {**where, **NOTHING, "error": failures.get(member.name, "")}
    try:
        result = plans.read_result(member)
        status = "done"
        if result is None:
            result, status = plans.stale_result(member), "stale"
        if result is None:
            return found | {"status": "failed" if found["error"] else "missing"}
        values = {key: _value(result, column) for key, column in table.columns.items()}
        episodes = {key: _at(result, column.episodes) for key, column in table.columns.items() if column.episodes}
        origin = result.get("provenance", {})
        about = {key: str(origin.get(key, "")) for key in ("revision", "trained_at", "date", "device")}
        curve = (_at(result, table.curve_at), _at(result, table.curve)) if table.curve else None
    except UserError as error:
        return found | {"status": "failed", "error": str(error)}
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        text = f"{member.result} is damaged ({type(error).__name__}: {error}): delete it to have it measured again."
        return found | {"status": "failed", "error": text}
    return found | about | {"status": status, "values": values, "episodes": episodes, "curve": curve}


def _origin(member: dict[str, Any]) -> str:
    """Which code made the numbers of a member, on what device and when."""
    trained = member["trained_at"]
    earlier = f", trained at revision {trained}" if trained not in ("", member["revision"]) else ""
    return f"revision {member['revision']}{earlier}, on {member['device']}, {member['date'][:10]}"


def _value(result: dict[str, Any], column: Column) -> float | None:
    """The number of a column in its unit; None where it was not measured."""
    value = _at(result, column.path)
    return None if value is None else column.scale * float(value)


def _at(result: dict[str, Any], path: tuple[str | int, ...]) -> Any:
    """What is at a path, of which an integer is a horizon; None where there is nothing."""
    found: Any = result
    for part in path:
        if isinstance(part, int):
            horizons = result["horizon"]
            found = found[horizons.index(part)] if found and part in horizons else None
        else:
            found = (found or {}).get(part)
    return found


def _mean_curve(curves: list[Any]) -> dict[str, list[float]] | None:
    curves = [curve for curve in curves if curve and curve[1]]
    if not curves:
        return None
    columns = zip(*(values for _, values in curves))
    means = [sum(column) / len(column) if None not in column else None for column in columns]
    return {"horizon": curves[0][0], "mean": means}
