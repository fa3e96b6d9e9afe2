"""One look for every page: the templates, and how a page leaves the program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from coldray.core.files import replacing

SYNTHETIC_LABEL = "Synthetic data: generated sample, not a real dataset"


def render(template: str, *, synthetic: bool, **values: Any) -> str:
    """Return one HTML page that needs no other file and no network; every text in `values` is escaped.

    Generated data is named in a banner.
    """
    environment = Environment(
        loader=PackageLoader("coldray", "reports/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    banner = SYNTHETIC_LABEL if synthetic else None
    return environment.get_template(template).render(synthetic=banner, **values)


def save_page(page: str, path: Path) -> Path:
    """Write `page` to `path`, completely or not at all, and return the path.

    Raises
    ------
    OutputError
        If the folder cannot be created or written.
    """
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path
