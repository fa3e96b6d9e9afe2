"""Labels → a zero-one vector an item.

Notation used for shapes: I items, d labels of the attribute, m labels kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from coldray.core.errors import DataFormatError, NotFittedError
from coldray.data.dataset import LabelAttribute, binary_matrix
from coldray.features.feature_set import VectorFeature


class MultiHotConfig(BaseModel):
    """Which labels become a column."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_items: PositiveInt = 2
    """A label needs at least this many items: one that a single item carries compares it with nothing."""
    max_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """A label may be on at most this share of the items; 1.0 keeps even a label that all of them carry."""


class MultiHotEncoder:
    """One column a label, in the order of the fitted vocabulary.

    Parameters
    ----------
    config
        Limits on how common a label is; the defaults of :class:`MultiHotConfig` if not given.
    """

    def __init__(self, config: MultiHotConfig | None = None) -> None:
        self.config = config or MultiHotConfig()
        self._labels: tuple[str, ...] | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels kept, one a column.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        """
        if self._labels is None:
            raise NotFittedError("The multi-hot encoder has no vocabulary yet. Call fit, or from_state, first.")
        return self._labels

    def fit(self, attribute: LabelAttribute) -> Self:
        """Keep the labels within the limits; a second fit forgets the first.

        Parameters
        ----------
        attribute
            Labels of the I items, ``[I, d]``.
        """
        items_of, names = _memberships(attribute)
        n_items = attribute.matrix.shape[0]
        counts = np.bincount(items_of[1], minlength=len(names))  # [d]
        # The quotient, not `max_share * n_items`: 29 of 100 items are a share of 0.29, but 0.29 * 100 < 29 in floats.
        kept = (counts >= self.config.min_items) & (counts / max(n_items, 1) <= self.config.max_share)
        self._labels = tuple(name for name, keep in zip(names, kept, strict=True) if keep)
        return self

    def transform(self, attribute: LabelAttribute) -> VectorFeature:
        """Encode items by label name; labels outside the fitted vocabulary are ignored.

        Parameters
        ----------
        attribute
            Labels ``[I, d]`` of any items, under any vocabulary.

        Returns
        -------
        VectorFeature
            float32 zeros and ones ``[I, m]``, indices sorted.
        """
        labels = self.labels
        column_of = {label: column for column, label in enumerate(labels)}
        (items, positions), names = _memberships(attribute)
        aligned = np.array([column_of.get(name, -1) for name in names], dtype=np.int32)
        columns = aligned[positions]
        known = columns >= 0
        shape = (attribute.matrix.shape[0], len(labels))
        return VectorFeature(binary_matrix(items[known].astype(np.int32), columns[known], shape), labels)

    def state(self) -> dict[str, Any]:
        """Return what :meth:`from_state` needs, as JSON values."""
        return {"config": self.config.model_dump(mode="json"), "labels": list(self.labels)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Restore a fitted encoder from :meth:`state`, also after a round trip through JSON."""
        encoder = cls(MultiHotConfig.model_validate(state["config"]))
        encoder._labels = tuple(str(label) for label in state["labels"])
        return encoder


def read_labels(values: Sequence[object], name: str, whose: str = "New item") -> LabelAttribute:
    """Return plain values, one a new item or user, as attribute `name`; a str is one label, None is no label.

    Raises
    ------
    DataFormatError
        If a value is neither a str nor a list of str.
    """
    labels_of: list[list[str]] = []
    for position, value in enumerate(values):
        labels = [value] if isinstance(value, str) else [] if value is None else value
        if not (isinstance(labels, list | tuple) and all(isinstance(label, str) for label in labels)):
            raise DataFormatError(
                f"{whose} {position} (counted from 0): {name!r} must be a str or a list of str, not {value!r:.60} "
                f"({type(value).__name__})."
            )
        labels_of.append(list(labels))
    names = sorted({label for labels in labels_of for label in labels})
    column_of = {label: column for column, label in enumerate(names)}
    rows = np.repeat(np.arange(len(labels_of), dtype=np.int32), [len(labels) for labels in labels_of])
    columns = np.array([column_of[label] for labels in labels_of for label in labels], dtype=np.int32)
    return LabelAttribute(binary_matrix(rows, columns, (len(labels_of), len(names))), np.array(names, dtype=np.str_))


def _memberships(
    attribute: LabelAttribute,
) -> tuple[tuple[npt.NDArray[np.integer[Any]], npt.NDArray[np.integer[Any]]], list[str]]:
    """Return (item, position of the name) pairs, each once, and the distinct label names ascending."""
    n_labels = attribute.matrix.shape[1]
    if len(attribute.labels) != n_labels:
        raise DataFormatError(
            f"A label attribute names {len(attribute.labels)} labels but its matrix has {n_labels} columns."
        )
    # A vocabulary may repeat a name; such columns are one label.
    names, positions = np.unique(np.asarray(attribute.labels, dtype=str), return_inverse=True)
    items, columns = attribute.matrix.nonzero()  # stored zeros are no memberships
    distinct = binary_matrix(items, positions[columns], (attribute.matrix.shape[0], len(names))).tocoo()
    return (distinct.row, distinct.col), [str(name) for name in names]
