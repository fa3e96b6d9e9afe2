"""What models of the leading singular vectors have in common: one decomposition serves several numbers of factors.

Notation used for shapes: I items, W warm items, k factors used, m of the decomposition.
"""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

import numpy as np
from pydantic import PositiveInt

from coldray.models.base import ModelConfig, TrainingSet
from coldray.models.linalg.singular import SingularVectors, solver_bytes, warn_of_reduced
from coldray.models.state import Arrays, FactorModel


class SingularConfig(ModelConfig):
    """Parameters of models of the leading singular vectors."""

    n_factors: PositiveInt = 50
    """k, singular vectors that scores are made of; fewer where the matrix has fewer."""
    max_factors: PositiveInt | None = None
    """m, singular vectors that are computed: a study fixes the largest `n_factors` it asks for, and its configurations
    share one decomposition, as the leading vectors of 100 are those of 10. By default, or if it is larger, `n_factors`.
    """


SingularT = TypeVar("SingularT", bound=SingularConfig)


class SingularModel(FactorModel[SingularT], Generic[SingularT]):
    """A model that keeps the leading right singular vectors of a matrix of its own."""

    item_array: ClassVar[str] = "vectors"

    def n_computed(self, most: int) -> int:
        """Return m, at most `most`: whatever is asked for beyond what there can be, it is the same decomposition."""
        return min(max(self.config.n_factors, self.config.max_factors or 0), most)

    def leading(self, train: TrainingSet, found: SingularVectors) -> Arrays:
        """Return the arrays to keep of the vectors of the warm items ``[W, m]`` and their values.

        They are ``vectors``, float32 ``[I, k]`` with zeros for cold items, ``values`` ``[k]`` and ``n_factors``, which
        tells k; that it is less than asked for is logged.
        """
        vectors, values = found
        used = min(self.config.n_factors, len(values))
        warn_of_reduced(self.name, self.config.n_factors, used, train)
        kept = np.zeros((train.interactions.shape[1], used), np.float32)
        kept[train.warm_items] = vectors[:, :used]
        return {"vectors": kept, "values": values[:used], "n_factors": np.array([used])}

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what the decomposition takes, and the vectors that are kept."""
        most = min(n_users, n_items)
        kept = 12 * n_items * min(self.config.n_factors, most)
        return solver_bytes((n_users, n_items), self.n_computed(most)) + kept

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check :meth:`memory_bytes`."""
        computed = self.n_computed(min(n_users, n_items))
        self.require_size(
            n_users,
            n_items,
            purpose=f"{computed:,} singular vectors of {n_users:,} users and {n_items:,} items",
            way_out="Use fewer n_factors (max_factors), or fewer users or items through the filters.",
        )
