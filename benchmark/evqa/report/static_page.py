"""Skeleton of a page without scripts: one HTML file with the colours of the report page."""

from __future__ import annotations

import html
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from evqa.files.jsonl import replace_file

POLICY = ("default-src 'none'", "style-src 'unsafe-inline'", "img-src data:", "base-uri 'none'")
"""Content security policy: nothing is loaded but styles and images of the page itself."""


def escape(text: object) -> str:
    """Return a value as text of HTML, also inside an attribute."""
    return html.escape(str(text), quote=True)


def write_static_page(
    path: Path, title: str, sections: Iterable[str], *, style: str, sources: tuple[str, ...] = ()
) -> None:
    """Write a page at once.

    Args:
        path: file of the page.
        title: heading and title, as plain text.
        sections: parts of the page as HTML.
        style: style sheet in addition to that of the report page.
        sources: directives of the content security policy in addition to `POLICY`.
    """
    common_style = resources.files("evqa.report").joinpath("page.css").read_text(encoding="utf-8")
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{"; ".join([*POLICY, *sources])}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{common_style}{style}</style></head><body><main>",
        f"<h1>{escape(title)}</h1>",
        *sections,
        "</main></body></html>",
    ]
    with replace_file(path) as file:
        file.write("\n".join(parts).encode())
