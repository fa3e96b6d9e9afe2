"""Packages that not everybody needs: extras of the installation, asked for where they are used."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, TypeAlias

from coldray.core.errors import MissingExtraError

Extra: TypeAlias = Literal["text", "stopwords", "sentiment", "graph", "serve"]
EXTRAS: dict[Extra, tuple[str, ...]] = {
    "text": ("sentence_transformers",),
    "stopwords": ("stop_words",),
    "sentiment": ("vaderSentiment",),
    "graph": ("torch_geometric", "sknetwork"),
    "serve": ("watchfiles", "redis"),
}
"""Packages that nothing but the extra brings, by its name in ``pip install 'coldray[NAME]'``."""


def require_extra(extra: Extra, what: str, packages: tuple[str, ...] | None = None) -> None:
    """Find out whether the packages of an extra are installed.

    Parameters
    ----------
    what
        What needs them, in words, to begin a sentence with.
    packages
        Those of the extra that it needs; all by default.

    Raises
    ------
    MissingExtraError
        Naming what is missing and the extra.
    """
    missing = [name for name in packages or EXTRAS[extra] if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"{what} needs {' and '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not installed here. "
            f"Install the extra {extra!r}: pip install 'coldray[{extra}]'."
        )
