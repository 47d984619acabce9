"""Pages of HTML that need no other file: a template of its own, in the look that all pages share (page.html)."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

_LOOK = Path(__file__).with_name("page.html")


def render_page(template: Path, **values: Any) -> bytes:
    """Fill a template, which extends page.html.

    Every value is escaped, for names of categories and keypoints come from files of strangers. A template that reads a
    value which is not given fails.

    Args:
        template: the .html file.
        values: what it reads.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader([template.parent, _LOOK.parent]),
    )
    return environment.get_template(template.name).render(**values).encode()


def embedded(content: bytes, kind: str) -> str:
    """Return a picture as an address that holds it.

    Args:
        content: the file of the picture.
        kind: png or jpeg.
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
