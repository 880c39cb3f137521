"""Which stretches of documents make an example: single segments, pairs of them, and several packed into a row."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

PAIRS = ("none", "next", "order")
SHORT_SHARE = 0.1  # of the pairs, which are made shorter at random (Devlin et al. 2018, appendix A.2)
NO_LABEL = -1


class Span(NamedTuple):
    """Tokens [begin, end) of a document."""

    document: int
    begin: int
    end: int

    @property
    def length(self) -> int:
        """How many tokens."""
        return self.end - self.begin


class Segments(NamedTuple):
    """One or two segments of text, and the label of the whole."""

    spans: tuple[Span, ...]
    label: int = NO_LABEL

    @property
    def length(self) -> int:
        """Tokens, with one before the first segment and one after each."""
        return 1 + sum(span.length + 1 for span in self.spans)


def single(ends: Sequence[np.ndarray], room: int) -> list[Segments]:
    """Whole sentences of a document for as long as they fit; a sentence that does not fit alone is cut.

    Args:
      ends: of each document, where its sentences end, int [sentences].
      room: tokens of a segment at most.
    """
    found = []
    for document, own in enumerate(ends):
        begin = end = 0
        for stop in own:
            while stop - begin > room:
                end = end if end > begin else begin + room
                found.append(Segments((Span(document, begin, end),)))
                begin = end
            end = int(stop)
        if end > begin:
            found.append(Segments((Span(document, begin, end),)))
    return found


def pairs(ends: Sequence[np.ndarray], room: int, kind: str, rng: np.random.Generator) -> list[Segments]:
    """Pairs of segments, once through all documents (Devlin et al. 2018, appendix A.2).

    "next": half of the second segments follow the first (label 0), the others come from another document (label 1), as
    all do that come after a document's last sentence.
    "order": the second segment follows the first (label 0), or both have changed places (label 1; Lan et al. 2019,
    ALBERT, section 3.1); documents of one sentence have no such pair.

    Args:
      ends: as in `single`; for "next" of at least two documents.
      room: tokens of both segments together at most.
      kind: "next" or "order".
      rng: of all choices.
    """
    found = []
    for document in range(len(ends)):
        found += _of_document(ends, document, room, kind, rng)
    return found


def _of_document(
    ends: Sequence[np.ndarray], document: int, room: int, kind: str, rng: np.random.Generator
) -> Iterator[Segments]:
    own, place = [0, *map(int, ends[document])], 0
    count = len(own) - 1
    while place < count:
        target = int(rng.integers(2, room + 1)) if rng.random() < SHORT_SHARE else room
        stop = place + 1
        # Two sentences where there are two, however long: of one alone BERT's own code takes a pair of label 1, which
        # most would be in short rows.
        while stop < count and (own[stop] - own[place] < target or stop == place + 1):
            stop += 1
        if kind == "order" and stop == place + 1:
            return  # one sentence is left, or there is no other
        middle = place + (int(rng.integers(1, stop - place)) if stop - place > 1 else 1)
        first, second = Span(document, own[place], own[middle]), Span(document, own[middle], own[stop])
        label, after = int(rng.random() < 0.5), stop
        if kind == "next" and (label or not second.length):
            label, after = 1, middle  # sentences that are not used come again
            second = _elsewhere(ends, document, target - first.length, rng)
        yield Segments(_cut((second, first) if kind == "order" and label else (first, second), target, rng), label)
        place = after


def _elsewhere(ends: Sequence[np.ndarray], document: int, target: int, rng: np.random.Generator) -> Span:
    """Sentences of another document, from a random one on, of at least `target` tokens if there are so many."""
    other = int(rng.integers(len(ends) - 1))
    other += other >= document
    own = [0, *map(int, ends[other])]
    place = int(rng.integers(len(own) - 1))
    stop = place + 1
    while stop < len(own) - 1 and own[stop] - own[place] < target:
        stop += 1
    return Span(other, own[place], own[stop])


def _cut(spans: tuple[Span, Span], room: int, rng: np.random.Generator) -> tuple[Span, Span]:
    """Takes tokens from the beginning or end, at random, of whichever segment is longer, until both fit."""
    first, second = spans
    while first.length + second.length > room:
        longer = max(first, second, key=lambda span: span.length)
        cut = longer._replace(begin=longer.begin + 1) if rng.random() < 0.5 else longer._replace(end=longer.end - 1)
        first, second = (cut, second) if longer is first else (first, cut)
    return first, second


def packed(sequences: Sequence[Segments], length: int) -> list[list[int]]:
    """Numbers of the sequences of each row, in order: a row is filled until the next sequence does not fit."""
    rows: list[list[int]] = []
    left = 0
    for number, sequence in enumerate(sequences):
        if not rows or sequence.length > left:
            rows.append([])
            left = length
        rows[-1].append(number)
        left -= sequence.length
    return rows
