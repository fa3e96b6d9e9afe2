"""Where bundles were read once: models that earlier versions registered hold code that imports it from here."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from coldray.bundle.io import load_bundle as _load_bundle
from coldray.bundle.lists import Place
from coldray.bundle.model import Bundle as _Bundle
from coldray.bundle.model import History

__all__ = ["Bundle", "History", "load_bundle"]


class Bundle(_Bundle):
    """A bundle whose lists are asked for as that code does."""

    def recommend(self, histories: Sequence[History], k: int) -> list[list[Place]]:  # type: ignore[override]
        """Return the lists alone."""
        return [places for _, places in self.lists(histories, k)]


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle."""
    bundle = _load_bundle(folder)
    return Bundle(**{field.name: getattr(bundle, field.name) for field in fields(bundle)})
