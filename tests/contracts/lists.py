"""Lists of a bundle without where they come from."""

from collections.abc import Sequence
from typing import Any

from coldray.bundle.lists import Place
from coldray.bundle.model import Bundle, History


def places_of(bundle: Bundle, histories: Sequence[History], k: int, **options: Any) -> list[list[Place]]:
    """Return the best `k` items for each history."""
    return [places for _, places in bundle.lists(histories, k, **options)]
