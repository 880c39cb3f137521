"""The text cells of a table: published numbers beside ours, with the best of comparable rows in bold."""

from collections.abc import Callable
from typing import Any

ARROWS = {"higher": "↑", "lower": "↓"}


def cells(
    table: dict[str, Any], bold: str, dagger: str, escape: Callable[[str], str] = str
) -> tuple[list[str], list[list[str]]]:
    """The head and the rows.

    Args:
      table: what `summarize` made.
      bold: format of the best cells.
      dagger: appended to numbers that were not verified in the paper.
      escape: applied to every text that is not markup.
    """
    published, ours = table["published_columns"], table["columns"]
    head = ["", *(escape(f"published: {heading(column)}") for column in published.values())]
    head += [escape(heading(column)) for column in ours.values()]
    rows = []
    for row in table["rows"]:
        mark = dagger if row["unverified"] else ""
        line = [escape(row["name"])]
        line += [f"{row['published'][key]:g}{mark}" if key in row["published"] else "–" for key in published]
        done = bool(row["members"]) and all(member["status"] == "done" for member in row["members"])
        for key, column in ours.items():
            text = escape(_ours(row["ours"][key], column["digits"], row["stale"], done))
            line.append(bold.format(text) if row["ours"][key] and row["ours"][key]["best"] else text)
        rows.append(line)
    return head, rows


def heading(column: dict[str, Any]) -> str:
    """Title, unit and direction of a column: "success rate (%) ↑"."""
    unit = f" ({column['unit']})" if column["unit"] else ""
    return f"{column['title']}{unit} {ARROWS[column['better']]}"


def _ours(found: dict[str, Any] | None, digits: int, stale: bool, done: bool) -> str:
    if not found:
        return "–" if done else "not run"  # a row may lack what a column measures
    text = f"{found['mean']:.{digits}f}"
    if found["low"] is not None and found["low"] != found["high"]:
        text += f" [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"
    return text + (" (stale)" if stale else "")
