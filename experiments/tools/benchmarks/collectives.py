"""What a compiled program sends between devices, read from its HLO text."""

import math
import re

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
# "%name = shape kind(" where an asynchronous pair counts by its end, whose shape is the result's alone.
_INSTRUCTION = re.compile(rf'^\s*(?:ROOT )?%?[\w.\-]+ = ([^%"]*?) ({"|".join(KINDS)})(-done)?\(')
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+[0-9a-z]*)\[([0-9,<= ]*)\]")
_BITS = re.compile(r"[a-z]+(\d+)")


def collectives(hlo_text: str) -> list[tuple[str, int]]:
    """The collective operations of a program, in the order of its text.

    One inside a loop's body counts once, however often the loop runs: a layer of a scanned model stands for all.

    Args:
      hlo_text: `compiled.as_text()`.

    Returns:
      (kind, bytes of its output on one device) of each; a kind is one of `KINDS`. An asynchronous pair is one.
    """
    found = []
    for line in hlo_text.splitlines():
        match = _INSTRUCTION.match(line)
        if match:
            found.append((match[2], sum(_bytes(*array) for array in _ARRAY.findall(match[1]))))
    return found


def summary(found: list[tuple[str, int]]) -> dict[str, dict[str, int]]:
    """{kind: {"count": how many, "bytes": of all outputs, "largest": of one output}} of the kinds that are there."""
    sizes = {kind: [size for own, size in found if own == kind] for kind in KINDS}
    return {k: {"count": len(s), "bytes": sum(s), "largest": max(s)} for k, s in sizes.items() if s}


def _bytes(dtype: str, dimensions: str) -> int:
    bits = 8 if dtype == "pred" else int(_BITS.match(dtype)[1])
    elements = math.prod(int(size.strip(" <=")) for size in dimensions.split(",") if size)
    return -(-elements * bits // 8)
