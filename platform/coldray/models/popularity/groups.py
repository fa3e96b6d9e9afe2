"""PopularityByGroup: the items that most people of a user's groups click.

A label of users, or a range of one of their numbers, is a group g of m_g users with clicks. The share of them who
clicked item j is smoothed with the share r_j of all m users, as if κ more had clicked as all do, and what each of a
user's groups differs by is added to the share of all::

    p_gj = (n_gj + κ r_j) / (m_g + κ),    r_j = n_j / m,
    s_uj = r_j + Σ_{g ∋ u} (p_gj − r_j) = r_j (1 − Σ_g m_g / (m_g + κ)) + Σ_g n_gj / (m_g + κ)

A user in no group is given the list of all (:mod:`~coldray.models.popularity.model`).

Notation used for shapes: U users, G groups, I items, n items asked for, b users in a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pydantic import PositiveFloat, PositiveInt

from coldray.core.errors import ConfigError, DataError
from coldray.core.memory import require_memory
from coldray.evaluation.ranking import Scorer
from coldray.features.feature_set import FeatureSet, ScalarFeature, VectorFeature
from coldray.models.base import Items, ModelConfig, ProfileScorer, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.state import ArrayModel
from coldray.training.options import FitOptions

_MANY_GROUPS = 100
"""Groups that the check of memory before the fit reckons with."""
_CELL_BYTES = 32
"""What a count of a group and an item takes, with all that is made of it."""
_EDGES = "edges."


class PopularityByGroupConfig(ModelConfig):
    """Parameters of :class:`PopularityByGroup`."""

    prior_users: PositiveFloat = 100.0
    """κ, users who click as all do that are added to every group: the more, the nearer its list is to that of all."""
    number_groups: PositiveInt = 5
    """Groups that a number such as the age is divided into, of about as many users each; fewer where values repeat."""


class PopularityByGroup(ArrayModel[PopularityByGroupConfig]):
    """The share of all who clicked an item, and what the groups of a user differ by."""

    name: ClassVar[str] = "popularity_by_group"
    config_type: ClassVar[type[ModelConfig]] = PopularityByGroupConfig
    item_array: ClassVar[str] = "clicks"
    personalised: ClassVar[bool] = False
    reads_users: ClassVar[bool] = True

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Count the clicks of every group.

        Raises
        ------
        MissingFieldError
            If nothing is known of users but their clicks.
        ConfigError
            If what is read of users makes no groups, as embeddings of a text do not.
        DataError
            If no item has a click.
        CatalogTooLargeError
            If the counts do not fit in memory.
        """
        self.check_options(options)
        users = train.of_users.features
        if train.interactions.nnz == 0:
            raise DataError("No item has a click, so there is nothing to count. Filter less, or check the split.")
        own = np.diff(train.interactions.indptr)
        active = np.flatnonzero(own > 0)
        known = users.take(active)
        edges = self._edges(known)
        groups = _groups(known, edges)
        require_memory(
            _CELL_BYTES * min(int(groups.sum(axis=1) @ own[active]), groups.shape[1] * len(train.clicks)),
            purpose=f"The clicks of {groups.shape[1]:,} groups on {len(train.clicks):,} items",
            way_out="Read fewer attributes of users (user_features.attributes), or labels of more users (min_items).",
        )
        members = groups.sum(axis=0) + self.config.prior_users
        counts = sp.csr_array(sp.csr_array(groups.T) @ train.interactions[active])
        added = counts.data / np.repeat(members, np.diff(counts.indptr))
        self._state = {
            "clicks": train.clicks,
            "n_users": np.array([len(active)]),
            "indptr": counts.indptr,
            "indices": counts.indices,
            "added": added.astype(np.float32),
            "taken": (1 - self.config.prior_users / members).astype(np.float32),
            **{f"{_EDGES}{name}": values for name, values in edges.items()},
        }
        return self

    def _edges(self, users: FeatureSet) -> dict[str, npt.NDArray[np.float64]]:
        """Return the quantiles that divide each number of users, by name; a group has its lower edge."""
        shares = np.linspace(0, 1, self.config.number_groups + 1)[1:-1]
        edges = {}
        for name, feature in users.features.items():
            if isinstance(feature, ScalarFeature):
                values = feature.values[np.isfinite(feature.values)]
                edges[name] = np.unique(np.quantile(values, shares)) if len(values) else np.zeros(0)
        return edges

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what the counts of a hundred groups take; the fit, which knows the groups, checks what they take."""
        return _CELL_BYTES * _MANY_GROUPS * n_items + 8 * n_users

    def scorer(self, items: Items) -> Scorer:
        """Return the function that gives users in no group the share of all who clicked `items`."""
        self.check_fitted()
        overall = self._shares(items)

        def scores(histories: sp.csr_array) -> Scores:
            return np.tile(overall, (histories.shape[0], 1))

        return scores

    def profile_scorer(self, items: Items) -> ProfileScorer:
        """Return the function that scores `items` by the groups of users; their clicks are not read."""
        self.check_fitted()
        state, overall = self._state, self._shares(items)
        edges = {name.removeprefix(_EDGES): values for name, values in state.items() if name.startswith(_EDGES)}
        shape = (len(state["taken"]), self.n_items)
        added = sp.csr_array((state["added"], state["indices"], state["indptr"]), shape=shape)[:, items]

        def scores(histories: sp.csr_array, profiles: FeatureSet) -> Scores:
            groups = _groups(profiles, edges)
            left = 1 - groups @ state["taken"]  # [b]
            return np.asarray(left[:, None] * overall + (groups @ added).toarray(), np.float32)

        return scores

    def _shares(self, items: Items) -> Scores:
        """Return the share of all users who clicked each of `items`, float32 ``[n]``."""
        return np.asarray(self._state["clicks"][items] / self._state["n_users"], np.float32)


def _groups(users: FeatureSet, edges: Mapping[str, npt.NDArray[np.float64]]) -> sp.csr_array:
    """Return in which groups users are, ones ``[b, G]``; attributes in the order of their names."""
    columns = []
    for name, feature in sorted(users.features.items()):
        if isinstance(feature, VectorFeature):
            if feature.is_embedding:
                raise ConfigError(
                    f"The dimensions of the attribute {name!r} are no groups. Encode a text by its words "
                    "(user_features.text: tfidf), or leave it out of user_features.attributes."
                )
            columns.append(sp.csr_array(feature.matrix > 0, dtype=np.float32))
            continue
        known = np.flatnonzero(np.isfinite(feature.values))
        places = np.searchsorted(edges[name], feature.values[known], side="right")
        ones = np.ones(len(known), np.float32)
        columns.append(sp.csr_array((ones, (known, places)), shape=(users.n_items, len(edges[name]) + 1)))
    return sp.csr_array(sp.hstack([sp.csr_array((users.n_items, 0), dtype=np.float32), *columns], format="csr"))
