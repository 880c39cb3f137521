"""A Griffe extension: placeholders such as <step> in docstrings are text, not HTML tags."""

import re
from typing import Any

import griffe


class EscapeTags(griffe.Extension):
    """Escapes angle brackets outside code in all docstrings."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring:
            parts = re.split(r"(`[^`]*`)", obj.docstring.value)
            obj.docstring.value = "".join(
                p if p.startswith("`") else re.sub(r"<(?=[a-zA-Z/])", "&lt;", p) for p in parts
            )
