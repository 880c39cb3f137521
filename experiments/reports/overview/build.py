"""Builds the page of the command `report` out of what `find` found."""

import datetime
import html
import json
import math
import pathlib
import re
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any

from experiments.reports.overview.find import Found, find

HERE = pathlib.Path(__file__).parent
MARKS = {True: ("holds", "holds"), False: ("fails", "does not hold"), None: ("open", "not run")}


def build(folder: pathlib.Path) -> pathlib.Path:
    """Writes `folder`/index.html, which shows everything below the folder and opens from disk.

    Raises:
      UserError: if there is nothing to show.
    """
    found = find(folder)
    futures = [run for run in found.runs if run["futures"]]
    counts = {"tables": found.tables, "runs": found.runs, "sweeps": found.sweeps, "futures": futures}
    cards = _drawn(_card, futures, found)
    sections = [
        _section("tables", "Tables", _drawn(_table, found.tables, found)),
        _section("curves", "Curves", [_CURVES] if found.runs else []),
        _section("runs", "Runs", [_runs(found)] if found.runs else []),
        _section("sweeps", "Sweeps", _drawn(_sweep, found.sweeps, found)),
        _section("futures", "Imagined futures", [f'<div class="cards">{"".join(cards)}</div>'] if cards else []),
        _section("damaged", "Could not be read", [_damaged(found)] if found.damaged else []),
    ]
    curves = [{"name": run["path"], "series": run["series"]} for run in found.runs]
    page = (HERE / "page.html").read_text(encoding="utf-8")
    content = {
        "TITLE": text(f"World models: {folder.absolute().name}"),
        "COUNTS": " · ".join(f"<a href='#{key}'>{key} {len(value)}</a>" for key, value in counts.items() if value),
        "BUILT": datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        "STYLE": (HERE / "style.css").read_text(encoding="utf-8"),
        "SCRIPT": (HERE / "page.js").read_text(encoding="utf-8"),
        "BODY": "\n".join(sections),
        "DATA": as_data(curves),
    }
    page = re.sub(r"%%(\w+)%%", lambda match: content[match[1]], page)
    path = folder / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def text(value: Any) -> str:
    """Escaped for HTML."""
    return html.escape(str(value))


def as_data(value: Any) -> str:
    """JSON that a script element can hold, whatever strings are in it."""
    plain = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return plain.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def link(*parts: str) -> str:
    """A relative address."""
    return urllib.parse.quote("/".join(part for part in parts if part not in ("", ".")))


def _drawn(draw: Callable[[dict[str, Any]], str], entries: Sequence[dict[str, Any]], found: Found) -> list[str]:
    """What can be drawn of some entries; those that lack something are noted as damaged."""
    parts = []
    for entry in entries:
        try:
            parts.append(draw(entry))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            found.damaged.append((entry["path"], f"{type(error).__name__}: {error}"))
    return parts


def _section(name: str, title: str, parts: Sequence[str]) -> str:
    return f'<section id="{name}"><h2>{title}</h2>{"".join(parts)}</section>' if parts else ""


def _item(words: Sequence[Any], content: str, tag: str = "article") -> str:
    """Something that the search box finds by `words`."""
    return f'<{tag} class="item" data-words="{text(" ".join(map(str, words)).lower())}">{content}</{tag}>'


def _table(table: dict[str, Any]) -> str:
    published, ours = table["published_columns"], table["columns"]
    settings = f"<b>Ours</b>, scale <code>{text(table['scale'])}</code>: {text(table['data'])}."
    settings = f"<p class='note'><b>Published</b>: {text(table['setting'])}.<br>{settings}</p>"
    heads = "".join(f"<th class='published'>{text(c['title'])}</th>" for c in published.values())
    heads += "".join(
        f"<th title='{text(c['about'])}'>{text(c['title'])}<small>{text(c['unit'])}</small></th>" for c in ours.values()
    )
    group = f"<th class='published' colspan='{len(published)}'>published</th>" if published else ""
    head = f"<tr><td></td>{group}<th colspan='{len(ours)}'>ours</th></tr><tr><th>row</th>{heads}</tr>"
    body = "".join(f"<tr>{_table_row(table, row)}</tr>" for row in table["rows"])
    notes = [f"<b>{text(c['title'])}</b>: {text(c['about'])}" for c in ours.values()]
    notes += sorted({f"Published numbers: {text(r['source'])}" for r in table["rows"] if r["published"]})
    if any(row["unverified"] and row["published"] for row in table["rows"]):
        notes.append("† not verified in the paper itself")
    for row in table["rows"]:
        for member in row["members"]:
            if member["status"] != "done":
                reason = f": {text(member['error'])}" if member["error"] else ""
                notes.append(f"<em>{text(row['name'])}, seed {member['seed']}: {text(member['status'])}</em>{reason}")
    verdicts = []
    for found in table["statement"]["conclusions"]:
        css, word = MARKS[found["holds"]]
        seeds = f" ({found['seeds_held']} of {found['seeds']} seeds)" if found["seeds"] else ""
        kind = {"paper": "conclusion of the paper", "ours": "hypothesis of ours"}[found["kind"]]
        source = f"{kind}: {found['source']}" if found["source"] else kind
        verdicts.append(
            f"<li class='{css}'><b>{word}</b>{seeds}: {text(found['text'])} <small>{text(source)}</small></li>"
        )
    files = "".join(
        f"<a href='{link(table['path'], f'table.{kind}')}'>{kind}</a> " for kind in ("md", "csv", "tex", "json")
    )
    parts = [
        f"<h3>{text(table['title'])}</h3>",
        f"<p>{text(table['paper'])}, {text(table['number'])}. {text(table['about'])}</p>",
        settings,
        f"<div class='scroll'><table><thead>{head}</thead><tbody>{body}</tbody></table></div>",
        "".join(f"<p>{text(sentence)}</p>" for sentence in table["statement"]["text"]),
        f"<ul class='verdicts'>{''.join(verdicts)}</ul>",
        f"<img loading='lazy' alt='plot of {text(table['title'])}' src='{link(table['path'], 'table.png')}'>",
        _fold("How it was measured", f"<ul>{''.join(f'<li>{note}</li>' for note in notes)}</ul>"),
        _fold("Provenance", f"<pre>{text(json.dumps(table['provenance'], indent=1))}</pre>"),
        f"<p class='files'>{files}</p>",
    ]
    words = [table["table"], table["scale"], table["title"], table["paper"], table["data"], table["path"], *published]
    return _item([*words, *(row["name"] for row in table["rows"])], "".join(parts))


def _table_row(table: dict[str, Any], row: dict[str, Any]) -> str:
    dagger = "†" if row["unverified"] else ""
    cells = [f"<th>{text(row['name'])}{' <mark>stale</mark>' if row['stale'] else ''}</th>"]
    for key in table["published_columns"]:
        value = row["published"].get(key)
        cells.append(f"<td class='published'>{'–' if value is None else f'{value:g}{dagger}'}</td>")
    for key, column in table["columns"].items():
        found, digits = row["ours"][key], column["digits"]
        if not found:
            cells.append("<td class='missing'>not run</td>")
            continue
        interval = (
            "" if found["low"] is None else f"<small>[{found['low']:.{digits}f}, {found['high']:.{digits}f}]</small>"
        )
        seeds = f"<small>{found['n']} seed{'s' if found['n'] > 1 else ''}</small>"
        cells.append(f"<td>{found['mean']:.{digits}f}{interval}{seeds}</td>")
    return "".join(cells)


def _runs(found: Found) -> str:
    """A sortable table; of the evaluators' columns those that most runs have, bounds and baselines left out."""
    counted: dict[str, int] = {}
    for run in found.runs:
        for name in run["last"]:
            if name.startswith("eval/") and not re.search("_low$|_high$|copy_last", name):
                counted[name] = counted.get(name, 0) + 1
    evals = sorted(counted, key=lambda name: (-counted[name], name))[:5]
    heads = [
        "",
        "run",
        "experiment",
        "steps",
        "train loss",
        *evals,
        "frames/s",
        "seed",
        "data",
        "revision",
        "date",
        "device",
    ]
    first = sorted(range(len(found.runs)), key=lambda i: -found.runs[i]["step"])[:4]
    rows = []
    for i, run in enumerate(found.runs):
        name = "<br>".join(
            [f"<b>{text(run['path'])}</b>", *(f"<small>{text(label)}</small>" for label in run["labels"][:4])]
        )
        label = f"aria-label='show the curve of {text(run['path'])}'"
        chosen = f"<input type='checkbox' data-run='{i}' {label}{' checked' if i in first else ''}>"
        steps = f"<td class='whole' data-value='{run['step']}'>{run['step']:,} of {run['num_steps'] or 0:,}</td>"
        numbers = [_number(run["last"].get(key)) for key in ("train/loss", *evals, "frames_per_second")]
        plain = [run["seed"], pathlib.PurePath(run["data"]).name, run["revision"][:10], run["date"][:16], run["device"]]
        cells = f"<td>{chosen}</td><th>{name}</th><td>{text(run['experiment'])}</td>{steps}{''.join(numbers)}"
        cells += "".join(f"<td>{text('' if value is None else value)}</td>" for value in plain)
        words = [run["path"], run["experiment"], run["data"], run["revision"], *run["labels"], *_flat(run["config"])]
        rows.append(_item(words, cells, "tr"))
    head = "".join(_head(name) for name in heads)
    return _sortable(head, rows)


def _head(name: str) -> str:
    shown = text(name.removeprefix("eval/"))
    return (
        f"<th aria-sort='none'><button>{shown}</button></th>" if name else "<th><span class='hidden'>curve</span></th>"
    )


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "<td>–</td>"
    return f"<td data-value='{value!r}'>{value:.4g}</td>"


def _flat(config: dict[str, Any], prefix: str = "") -> list[str]:
    words = []
    for key, value in config.items():
        words += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}={value}"]
    return words


def _sweep(sweep: dict[str, Any]) -> str:
    fields = sweep["fields"]
    heads = "".join(map(_head, ("member", *fields, sweep["metric"], "status")))
    rows = []
    for member in sweep["members"]:
        values = "".join(f"<td>{text(member['overrides'].get(field, ''))}</td>" for field in fields)
        mark = " <mark>best</mark>" if member["name"] == sweep["best"] else ""
        error = f"<small>{text(member['error'])}</small>" if member["error"] else ""
        rows.append(
            f"<tr><th>{text(member['name'])}{mark}</th>{values}{_number(member['value'])}<td>{text(member['status'])}{error}</td></tr>"
        )
    parts = [
        f"<h3>{text(sweep['path'])}</h3><p>{text(sweep['config'])}, judged by <code>{text(sweep['metric'])}</code> "
        f"({text(sweep['better'])} is better); best: <b>{text(sweep['best'] or 'none yet')}</b></p>",
        _sortable(heads, rows),
        f"<img loading='lazy' alt='parallel coordinates' src='{link(sweep['path'], 'sweep.png')}'>",
    ]
    return _item([sweep["path"], sweep["config"], sweep["metric"], *fields], "".join(parts))


def _card(run: dict[str, Any]) -> str:
    made, path = run["futures"], f"{run['path']}/imagine"
    parts = [f"<h3>{text(run['path'])}</h3>", *(f"<small>{text(label)}</small>" for label in run["labels"][:2])]
    if "strip.png" in made["files"]:
        parts.append(
            f"<div class='scroll'><img loading='lazy' alt='imagined futures' src='{link(path, 'strip.png')}'></div>"
        )
    if "futures.mp4" in made["files"]:
        parts.append(
            f"<video controls loop muted playsinline preload='metadata' src='{link(path, 'futures.mp4')}'></video>"
        )
    rows = [(h, *("–" if v is None else f"{v:.2f}" for v in values)) for h, *values in made["psnr"]]
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    parts.append(
        f"<table><thead><tr><th>ahead</th><th>imagined</th><th>copy last</th></tr></thead><tbody>{body}</tbody></table>"
    )
    parts.append(f"<p class='note'>PSNR in dB over changing pixels, step {text(made['step'])}</p>")
    if "report.html" in made["files"]:
        parts.append(f"<p><a href='{link(path, 'report.html')}'>whole report</a></p>")
    return _item([run["path"], run["experiment"], run["data"], *run["labels"]], "".join(parts))


def _damaged(found: Found) -> str:
    items = "".join(f"<li><code>{text(path)}</code>: {text(reason)}</li>" for path, reason in found.damaged)
    return f"<ul>{items}</ul>"


def _sortable(head: str, rows: Sequence[str]) -> str:
    table = f"<table class='sortable'><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f"<div class='scroll'>{table}</div>"


def _fold(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>{content}</details>"


_CURVES = """<div class="controls"><label>metric <select id="metric"></select></label>
<label><input type="checkbox" id="log"> log scale</label><span class="note">Choose runs in the table below.</span></div>
<div id="chart" role="img" aria-label="curves of the chosen runs"></div><div id="legend"></div>"""
