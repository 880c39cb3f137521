"""Finds what a built site would request from other hosts."""

import pathlib
import re

# Tags that a browser loads by itself; links that a reader follows (<a href>) are no requests.
_TAG = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed|link)\b[^>]*?\b(?:src|href|srcset)=["']?(?:https?:)?//[^>]*>""",
    re.IGNORECASE,
)
_STYLE = re.compile(r"""(?:url\(|@import)\s*["']?(?:https?:)?//[^)"';]*""", re.IGNORECASE)
# The theme loads these on demand only: diagrams from a CDN, stars of a repository.
_ON_DEMAND = re.compile(r"""class="mermaid"|data-md-component="source\"""")


def external_resources(site: pathlib.Path) -> list[tuple[str, str]]:
    """(file, what) for everything in a built site that would be requested from another host at view time."""
    found = []
    for path in sorted(site.rglob("*")):
        patterns = {".html": (_TAG, _STYLE, _ON_DEMAND), ".css": (_STYLE,)}.get(path.suffix, ())
        text = path.read_text(errors="replace") if patterns else ""
        for pattern in patterns:
            found += [(str(path.relative_to(site)), match.group()) for match in pattern.finditer(text)]
    return found
