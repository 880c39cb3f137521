"""HTML from the templates beside this module, which escape every value."""

import base64
import hashlib
import pathlib
from typing import Any

import jinja2
from markupsafe import Markup

FOLDER = pathlib.Path(__file__).parent / "templates"
ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(FOLDER),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: Any) -> str:
    """A page; values that are no `Markup` are escaped."""
    return ENVIRONMENT.get_template(template).render(**values)


def macros(template: str) -> Any:
    """The macros of a template as functions that return `Markup`."""
    return ENVIRONMENT.get_template(template).module


def inline(name: str) -> tuple[Markup, str]:
    """A style sheet or script of the templates, to stand in a page, and its source in the page's security policy.

    The policy then allows this text and no other inline style or script, also of pages that are opened from disk.
    """
    text = (FOLDER / name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), f"'sha256-{digest}'"
