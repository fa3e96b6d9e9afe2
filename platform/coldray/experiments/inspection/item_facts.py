"""What the items of a comparison's maps are called, and how they are labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import ConfigError
from coldray.core.spelling import choices, nearest
from coldray.data.dataset import Dataset, LabelAttribute
from coldray.data.item_names import ItemNames
from coldray.experiments.inspection.config import InspectionConfig
from coldray.experiments.inspection.measure import Inspection

_QUERIES = 6
"""Items whose neighbours are listed."""


@dataclass(frozen=True, eq=False)
class ItemFacts:
    """Of all items of the dataset; those of the maps are indices into it."""

    names: tuple[str, ...]
    """Length I; an item without a name is called by its id."""
    attribute: str | None
    """Which labels; None where the dataset has none."""
    labels: npt.NDArray[np.str_]
    """Label names ``[d]``."""
    matrix: sp.csr_array
    """Which item has which, ``[I, d]``."""
    queries: npt.NDArray[np.int32]
    """Items whose neighbours are listed: the most clicked with a label, and that of each label but those had before."""


def label_attribute(dataset: Dataset, wanted: str | None) -> str | None:
    """Return the labels by which items are coloured: `wanted`, else genres, else the first of which items have several.

    Raises
    ------
    ConfigError
        If the dataset has no labels of the name `wanted`.
    """
    known = [name for name, attribute in dataset.attributes.items() if isinstance(attribute, LabelAttribute)]
    if wanted is not None:
        if wanted not in known:
            raise ConfigError(
                f"inspection.attribute: dataset {dataset.name!r} has no labels {wanted!r}.{nearest(wanted, known)} "
                f"Labels: {choices(known) or 'none'}."
            )
        return wanted
    genres = [name for name in known if "genre" in name.casefold()]
    several = [name for name in known if np.diff(dataset.attributes[name].matrix.indptr).max(initial=0) > 1]  # type: ignore[union-attr]
    return next(iter((*genres, *several, *known)), None)


def shown_facts(
    dataset: Dataset, config: InspectionConfig | None, inspected: Sequence[Sequence[Inspection]]
) -> ItemFacts | None:
    """Return the facts of items that the maps of entries need; None if there is no map.

    Parameters
    ----------
    inspected
        What was measured of each entry, fold by fold.
    """
    maps = [one.map for folds in inspected for one in folds if one.map is not None]
    if config is None or not maps:
        return None
    name = label_attribute(dataset, config.attribute)
    labelled = None if name is None else dataset.attributes[name]
    if isinstance(labelled, LabelAttribute):
        labels, matrix = labelled.labels, labelled.matrix
    else:
        labels, matrix = np.array([], np.str_), sp.csr_array((dataset.n_items, 0), dtype=np.float32)
    names = tuple(ItemNames(dataset.attributes, dataset.item_ids.tolist())[:])
    clicks = np.bincount(dataset.interactions.indices, minlength=dataset.n_items)
    return ItemFacts(names, name, labels, matrix, _queries(maps[0].items, matrix, clicks))


def _queries(
    items: npt.NDArray[np.int32], matrix: sp.csr_array, clicks: npt.NDArray[np.int64]
) -> npt.NDArray[np.int32]:
    """Return items that differ: the most clicked that has a label which none before it has."""
    chosen, had = [], np.zeros(matrix.shape[1], np.bool_)
    by_clicks = items[np.argsort(-clicks[items], kind="stable")]
    for item in by_clicks:
        own = matrix.indices[matrix.indptr[item] : matrix.indptr[item + 1]]
        if len(own) and not had[own].any():
            chosen.append(item)
            had[own] = True
    chosen += [item for item in by_clicks if item not in chosen]
    return np.array(chosen[:_QUERIES], np.int32)
