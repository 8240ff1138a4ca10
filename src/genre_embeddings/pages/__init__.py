"""The Jinja environment of the report and the model card, and words for pages and tables."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import jinja2

HERE = Path(__file__).parent
MARKS = {"pass": "✓", "fail": "✗", "inconclusive": "?"}
"""Of the outcomes of a verdict."""


def render(template: Path, **values: Any) -> str:
    """The text of a template, which can import from words.jinja; HTML is escaped in .html.jinja.

    A value that the template names and `values` lacks is an error, not a gap in the text.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, HERE]),
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["marks"] = MARKS
    environment.filters |= {
        "count": "{:,}".format,
        "stars": "{:.3f}".format,
        "two": "{:.2f}".format,
        "percent": _percent,
        "data_uri": lambda png: f"data:image/png;base64,{base64.b64encode(png).decode()}",
    }
    return environment.get_template(template.name).render(values)


def setting_text(value: Any) -> str:
    """The value of a setting as params.yaml has it."""
    return value if isinstance(value, str) else json.dumps(value)


def cell(value: Any, form: str = ".4g") -> str:
    """A cell of a table: a float in a format, another value as text, "-" for a missing one."""
    if value is None or value != value:  # NaN
        return "-"
    return format(value, form) if isinstance(value, float) else setting_text(value)


def data_name(source: str) -> str:
    """What a reader calls the data of a `data.source`."""
    if source.startswith("ml-"):
        release = source.removeprefix("ml-")
        return f"MovieLens {release.upper() if release[0].isdigit() else release}"
    return "a planted world" if source == "planted" else "ratings of one's own"


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"
