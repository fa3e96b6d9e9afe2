"""What is known of an item, as the service says it."""

from __future__ import annotations

from typing import Any

import numpy as np

from coldray.bundle.io import Bundle
from coldray.data.dataset import LabelAttribute, NumberAttribute


def known_attributes(bundle: Bundle, place: int) -> dict[str, Any]:
    """Return the attributes of an item by name: labels, a number or a text; those that are not known are left out."""
    found: dict[str, Any] = {}
    for name, attribute in bundle.attributes.items():
        if isinstance(attribute, LabelAttribute):
            matrix = attribute.matrix
            labels = matrix.indices[matrix.indptr[place] : matrix.indptr[place + 1]]
            if len(labels):
                found[name] = attribute.labels[labels].tolist()
        elif isinstance(attribute, NumberAttribute):
            value = float(attribute.values[place])
            if np.isfinite(value):
                found[name] = int(value) if value.is_integer() else value
        elif attribute.texts[place]:
            found[name] = attribute.texts[place]
    return found
