"""Conditions on attributes: which items of a catalogue meet them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from coldray.core.errors import ConfigError, UnknownAttributeError
from coldray.core.spelling import nearest
from coldray.data.dataset import Attribute, LabelAttribute, NumberAttribute
from coldray.serving.engine.queries import Condition


def meeting(attributes: Mapping[str, Attribute], name: str, condition: Condition) -> npt.NDArray[np.bool_]:
    """Return which items meet a condition on the attribute `name` ``[I]``; one whose attribute is unknown meets none.

    Raises
    ------
    UnknownAttributeError
        If items have no such attribute.
    ConfigError
        If the condition is not one of that attribute's kind.
    """
    if name not in attributes:
        raise UnknownAttributeError(f"filters: items have no attribute {name!r}.{nearest(name, attributes)}")
    attribute = attributes[name]
    if isinstance(attribute, LabelAttribute) and condition.any is not None:
        columns = np.flatnonzero(np.isin(attribute.labels, condition.any))
        found: npt.NDArray[np.bool_] = np.asarray(attribute.matrix[:, columns].sum(axis=1)).ravel() > 0
        return found
    if isinstance(attribute, NumberAttribute) and condition.any is None:
        low = -np.inf if condition.at_least is None else condition.at_least
        high = np.inf if condition.at_most is None else condition.at_most
        return np.asarray((attribute.values >= low) & (attribute.values <= high))
    wanted = "any: a list of labels" if isinstance(attribute, LabelAttribute) else "at_least or at_most: numbers"
    if not isinstance(attribute, LabelAttribute | NumberAttribute):
        raise ConfigError(f"filters: {name!r} is a text, and texts cannot be filtered on.")
    raise ConfigError(f"filters: {name!r} takes {wanted}.")
