"""Sums over shards of users by the workers of a Ray cluster, of matrices too large to be held once a shard.

Each worker adds up its share of the shards, one after the other, in the place of one sum: it holds that and one shard,
however many users there are. The sums of two workers are then added, those of two pairs, and so on (a tree), in panels
of rows, so that whoever adds holds three panels and no whole matrix. No machine has more sums than it has workers.

Shards go to workers in the order they are given, so the same number of workers adds in the same order, and gives the
same bits. What a worker has lost is added up again by another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import ray
import scipy.sparse as sp
from ray.exceptions import RayError

from coldray.core.errors import ColdrayError, TrainingFailedError
from coldray.core.memory import require_memory
from coldray.core.ray_errors import cause_of, in_words
from coldray.models.linalg.click_shards import ParquetShard, Shard, read_shard

Sum: TypeAlias = npt.NDArray[np.float64]
Panels: TypeAlias = list["ray.ObjectRef[Any]"]
"""Where the rows of sums are, in the order of :func:`_panels`."""
RETRIES = 3
"""Times that a share of the shards is added up again when its worker is lost."""
PANEL_BYTES = 2**26
"""Bytes of the rows that are sent at once."""


class ShardTerms(Protocol):
    """What is added up: matrices that each shard adds a term to."""

    @property
    def shapes(self) -> Sequence[tuple[int, ...]]:
        """Shapes of the sums, in their order."""

    def add(self, clicks: sp.csr_array, sums: list[Sum]) -> None:
        """Add the term of the clicks ``[u, I]`` of a shard to float64 `sums`, in their place."""


def sum_over_shards(
    terms: ShardTerms, shards: Sequence[Shard], *, workers: int = 1, kind: npt.DTypeLike = np.float64
) -> list[npt.NDArray[Any]]:
    """Return the sums over all shards; zeros without any.

    Parameters
    ----------
    workers
        Tasks that add shards up side by side; 1 adds in this process, without a cluster.
    kind
        Numbers of what is returned; sums are of float64 until then.

    Raises
    ------
    CatalogTooLargeError
        If the sums do not fit in the memory of a worker, or of this process.
    DataError
        If a shard cannot be read.
    TrainingFailedError
        If workers were lost more often than allowed.
    """
    need = int(sum(np.prod(shape) for shape in terms.shapes))
    if workers == 1:
        _require_sums(8 * need)
        sums = [np.zeros(shape) for shape in terms.shapes]
        for shard in shards:
            terms.add(read_shard(shard), sums)
        return [one.astype(kind, copy=False) for one in sums]
    _require_sums(np.dtype(kind).itemsize * need)
    panels = _panels(terms.shapes)
    try:
        return _collected(_tree(terms, _stored(shards), workers, panels), terms.shapes, panels, kind)
    except RayError as error:
        if isinstance(cause_of(error), ColdrayError):
            raise cause_of(error) from error
        raise TrainingFailedError(
            f"Adding up {len(shards):,} shards by {workers} workers of the Ray cluster failed: {in_words(error)}. Use "
            "workers=1, smaller shards, or nodes with more memory."
        ) from error


def _stored(shards: Sequence[Shard]) -> list[Shard]:
    """Return the shards without any click that would be sent along with a task."""
    sent = (ray.ObjectRef, ParquetShard)
    return [shard if isinstance(shard, sent) else ray.put(shard) for shard in shards]


def _panels(shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, slice]]:
    """Return the rows of which sum are sent together."""
    panels = []
    for place, shape in enumerate(shapes):
        height = max(1, PANEL_BYTES // max(1, 8 * int(np.prod(shape[1:]))))
        bounds = [*range(0, shape[0], height), shape[0]]
        panels += [(place, slice(*rows)) for rows in pairwise(bounds)]
    return panels


def _tree(terms: ShardTerms, shards: list[Shard], workers: int, panels: list[tuple[int, slice]]) -> Panels:
    """Return the panels of the sums over all shards."""
    # One result more than there are panels: it is small, and tells whether the task failed.
    count, shared = len(panels) + 1, ray.put(terms)
    add_share: Any = _add_share.options(num_returns=count)
    add_pair: Any = _add_pair.options(num_returns=count)
    bounds = np.linspace(0, len(shards), min(workers, max(1, len(shards))) + 1).astype(int).tolist()
    parts = _finished([add_share.remote(shared, shards[first:last], panels) for first, last in pairwise(bounds)])
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        alone = parts[len(parts) // 2 * 2 :]
        parts = _finished([add_pair.remote(left, right) for left, right in pairs]) + alone
    return parts[0]


def _finished(parts: list[Any]) -> list[Panels]:
    """Wait for tasks and return their panels, which stay where they are; raise what a task raised."""
    found = [[part] if isinstance(part, ray.ObjectRef) else part for part in parts]
    ray.get([part[-1] for part in found])
    return [part[:-1] for part in found]


def _collected(
    references: Panels,
    shapes: Sequence[tuple[int, ...]],
    panels: list[tuple[int, slice]],
    kind: npt.DTypeLike,
) -> list[npt.NDArray[Any]]:
    sums = [np.empty(shape, kind) for shape in shapes]
    for (place, rows), reference in zip(panels, references, strict=True):
        sums[place][rows] = ray.get(reference)
    return sums


# No CPU is reserved: a trial that waits for its sums holds one, and would wait for ever where all are held by trials.
@ray.remote(num_cpus=0, max_retries=RETRIES, scheduling_strategy="SPREAD")
def _add_share(terms: ShardTerms, shards: list[Shard], panels: list[tuple[int, slice]]) -> Iterator[Sum | None]:
    _require_sums(8 * int(sum(np.prod(shape) for shape in terms.shapes)))
    sums = [np.zeros(shape) for shape in terms.shapes]
    for shard in shards:
        terms.add(read_shard(shard), sums)
    yield from (sums[place][rows] for place, rows in panels)
    yield None


@ray.remote(num_cpus=0, max_retries=RETRIES, scheduling_strategy="SPREAD")
def _add_pair(left: Panels, right: Panels) -> Iterator[Sum | None]:
    for both in zip(left, right, strict=True):
        first, second = ray.get(list(both))
        yield first + second
    yield None


def _require_sums(need: int) -> None:
    require_memory(
        need,
        purpose="The sums over shards of users",
        way_out="Use fewer items through the filters (min_item_interactions), or nodes with more memory.",
    )
