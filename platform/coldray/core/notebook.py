"""How objects show themselves in a notebook."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def facts_html(title: str, facts: Iterable[tuple[str, object]], notes: Iterable[str] = ()) -> str:
    """Return a title, a table of names and values, and a list of notes as HTML; all text is escaped."""
    cell = 'style="text-align:left"'
    rows = "".join(
        f"<tr><th {cell}>{escape(name)}</th><td {cell}>{escape(_shown(value))}</td></tr>" for name, value in facts
    )
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<div><strong>{escape(title)}</strong><table>{rows}</table>{f'<ul>{listed}</ul>' if listed else ''}</div>"


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
