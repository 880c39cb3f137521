"""What a table consists of: columns, rows, conclusions and scales."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

Values = dict[str, dict[str, float]]
"""Numbers by row and column."""


@dataclasses.dataclass(frozen=True)
class PublishedColumn:
    """A column of the paper; `better` is "higher" or "lower". `unit` may be empty, or name what distances are of."""

    title: str
    better: str
    unit: str = ""


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of ours.

    Attributes:
      title, unit, about: for readers; `about` says how it is measured.
      better: "higher" or "lower".
      path: where the number is in what the command measured; an integer is a horizon.
      digits: after the decimal point.
      scale: what the number is multiplied by to be in `unit`.
      published: the published columns that it is compared with, if any.
      range: the least and the greatest possible value, in `unit`; no interval leaves it.
      episodes: where the number of episodes is whose share of successes the number is, or a list of one value for every
        episode whose mean it is, before scaling; empty where neither is measured.
      baseline_for: the column that this one is a baseline for, something that needs no training or less; empty if it
        is none.
    """

    title: str
    unit: str
    about: str
    better: str
    path: tuple[str | int, ...]
    digits: int = 2
    scale: float = 1.0
    published: tuple[str, ...] = ()
    range: tuple[float, float] = (-math.inf, math.inf)
    episodes: tuple[str, ...] = ()
    baseline_for: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
      overrides: fields of the config, by dotted path; a dict replaces a whole block.
      published: the paper's numbers by published column.
      source: where these were read.
      unverified: whether they are from memory or from notes of others.
      init_from: name of the scale's pretraining whose weights it is initialised from; empty for none. The overrides say
        which parts of them: `init_from.parts`.
      group: only rows of one group are measured on the same thing and compared with each other.
    """

    overrides: Mapping[str, Any]
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)
    source: str = ""
    unverified: bool = False
    init_from: str = ""
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """A training whose weights rows are initialised from, on the row's data and with its seed; fields as in `Scale`."""

    config: str
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Conclusion:
    """Something that the numbers may show or not.

    Attributes:
      text: for readers.
      kind: "paper" for a conclusion that the paper draws from its own numbers, "ours" for a hypothesis of ours, also
        where a published number is what it is measured against.
      holds: predicate on numbers by row and column; KeyError where one is missing.
      source: where the paper draws it, needed for that kind; or what the hypothesis comes from.
    """

    text: str
    kind: str
    holds: Callable[[Values], bool]
    source: str = ""


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large to run a table.

    Attributes:
      about: data and size, for readers: it stands beside every number.
      config: config file, perhaps with a variant; empty where the scale cannot be run from here.
      overrides: as in `Row`; rows override them.
      rows: more overrides of single rows, by name, which win: what a row changes may depend on the size.
      configs: config files of single rows, by name, in place of `config`: other families, or other worlds.
      pretraining: trainings that rows are initialised from, by name.
    """

    about: str
    config: str = ""
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rows: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    configs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    pretraining: Mapping[str, Pretraining] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a paper, and how to make ours.

    Attributes:
      title, paper, number, question, about: for readers.
      setting: what the published numbers were measured on.
      command: whose numbers the columns show: a capability of the experiment of every config.
      published_columns, columns, rows, conclusions, scales: see there.
      headline: the main result in a few words, from our means by row and column.
      panels: the columns that the plot draws; by default those with published ones beside them, or else the first three
        that are no baselines.
      curve: path to a list of numbers, drawn as one line a row.
      curve_at: path to the frames ahead that these are of.
      curve_title: its axis label.
      against: two columns; the plot has the second one against the first, on logarithmic axes, a point a row.
      laws: lines beside these points, by label: from our means by row and column, a function of the first column;
        KeyError where a mean is missing, or there is no such line.
    """

    name: str
    title: str
    paper: str
    number: str
    question: str
    about: str
    setting: str
    command: str
    published_columns: Mapping[str, PublishedColumn]
    columns: Mapping[str, Column]
    rows: Mapping[str, Row]
    conclusions: tuple[Conclusion, ...]
    scales: Mapping[str, Scale]
    headline: Callable[[Values], str]
    panels: tuple[str, ...] = ()
    curve: tuple[str, ...] = ()
    curve_at: tuple[str, ...] = ("horizon",)
    curve_title: str = ""
    against: tuple[str, ...] = ()
    laws: Mapping[str, Callable[[Values], Callable[[float], float]]] = dataclasses.field(default_factory=dict)
