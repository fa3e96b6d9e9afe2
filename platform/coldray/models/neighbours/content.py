"""ContentKNN: an item is scored by how much of what a user clicked is among the items most like it.

Items are compared by their attributes alone: ``s_ij = Σ_a w_a s_ij^(a) / Σ_a w_a``, with the smoothed cosine of labels
or words and the distance of numbers (:mod:`~coldray.models.marec.similarity`). Item j has the neighbours N(j), the k
warm items most similar to it, and user u the score ``Σ_{i ∈ N(j), i clicked} d_i s_ij / (Σ_{i ∈ N(j)} s_ij)^p`` with
the damping ``d_i = (n_i + 5)^−α``. A warm item is scored in the same way, and is no neighbour of itself: its clicks
are not used, so warm and cold items compete on the same terms.

Notation used for shapes: W warm items, n items, I all items, k neighbours, b users in a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from coldray.core.errors import ConfigError, DataError
from coldray.core.spelling import choices, nearest
from coldray.evaluation.ranking import Scorer
from coldray.evaluation.topk import top_k
from coldray.features.builder import AttributeKind
from coldray.features.feature_set import Feature, FeatureSet, VectorFeature
from coldray.models.base import Items, ModelConfig, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.marec.mixture import coclick_moments, correlation_weights
from coldray.models.marec.similarity import Similarities, mix
from coldray.models.neighbours.nearest import Neighbours
from coldray.models.state import ArrayModel
from coldray.training.options import FitOptions

_ITEMS_PER_BLOCK = 256
"""Items whose similarities to all warm items are held at once."""
_MANY_ATTRIBUTES = 32
"""Attributes that the check of memory reckons with."""
_DAMPING_CLICKS = 5.0
"""Clicks added to every item's count in the damping."""


class ContentKNNConfig(ModelConfig):
    """Parameters of :class:`ContentKNN`."""

    k: PositiveInt = 200
    """Neighbours of an item; all warm items where there are fewer."""
    idf: bool = True
    """Whether labels are weighted by ``log((W + 1) / (df + 1))``, df of the W warm items having the label. Words and
    embeddings come weighted."""
    delta: PositiveFloat = 10.0
    """δ, smoothing of the cosine: the lower, the more two items with a single label each can be alike."""
    weights: Literal["equal", "correlation"] | dict[str, NonNegativeFloat] = "equal"
    """w, the weight of each attribute: all equal, those whose mixture correlates best with the co-clicks of warm items
    (:func:`~coldray.models.marec.mixture.correlation_weights`), or given by name, 1 for those not named."""
    normalisation: float = Field(default=0.0, ge=0, le=1)
    """p: 0 adds up what neighbours say, so that an item with close neighbours is ahead; 1 takes their weighted mean."""
    alpha: NonNegativeFloat = Field(default=0.0, le=2)
    """α, how far a click on a popular item counts less."""
    user_normalisation: bool = False
    """Whether scores are divided by the number of clicks, which makes them comparable between users; the order of a
    user's list stays."""


def co_click_weights(train: TrainingSet, *, idf: bool, delta: float) -> npt.NDArray[np.float64]:
    """Return the weights of the attributes ``[K]`` whose mixture correlates best with the co-clicks of warm items.

    Raises
    ------
    SingularMatrixError
        If no similarity varies between the warm items.
    """
    warm = train.features.take(train.warm_items)
    compared = TrainingSet(train.interactions, _weighted(train.features, warm) if idf else train.features, train.key)
    return correlation_weights(coclick_moments(compared, delta=delta, order=1))


def neighbours(train: TrainingSet, *, k: int, idf: bool, delta: float, weights: tuple[float, ...]) -> Neighbours:
    """Return the `k` warm items most similar to each item, and how similar they are.

    Parameters
    ----------
    k
        Neighbours wanted.
    idf, delta
        As in :class:`ContentKNNConfig`.
    weights
        w, one an attribute, in the order of the features.

    Returns
    -------
    Neighbours
        Positions among the warm items, int32 ``[I, k]``, nearest first, and similarities, float32 ``[I, k]``; all W of
        them where k is larger. A warm item's similarity to itself counts as 0.
    """
    warm = train.warm_items
    own = np.full(train.interactions.shape[1], -1)
    own[warm] = np.arange(len(warm))
    known = train.features.take(warm)
    return _nearest_items(train.features, known, own, k=k, idf=idf, delta=delta, weights=weights)


def _nearest_items(
    items: FeatureSet,
    warm: FeatureSet,
    own: npt.NDArray[np.integer],
    *,
    k: int,
    idf: bool,
    delta: float,
    weights: tuple[float, ...],
) -> Neighbours:
    """Return :func:`neighbours` of any items; `own` is an item's own position among the warm ones ``[n]``, or −1."""
    count = min(k, warm.n_items)
    shares = np.array(weights) / (sum(weights) or 1.0)
    columns = _weighted(warm, warm) if idf else warm
    found = np.empty((items.n_items, count), np.int32)
    similar = np.empty((items.n_items, count), np.float32)
    for start in range(0, items.n_items, _ITEMS_PER_BLOCK):
        block = np.arange(start, min(start + _ITEMS_PER_BLOCK, items.n_items))
        rows = items.take(block)
        mixed = mix(Similarities(_weighted(rows, warm) if idf else rows, columns, delta), shares, order=1)
        itself = np.flatnonzero(own[block] >= 0)
        mixed[itself, own[block][itself]] = -1  # less similar than any other
        found[block], similar[block] = top_k(mixed, count)
    return found, np.maximum(similar, 0)


def _weighted(items: FeatureSet, warm: FeatureSet) -> FeatureSet:
    """Return `items` with their labels weighted by how rare they are among the warm items."""
    features: dict[str, Feature] = {}
    for name, feature in items.features.items():
        known = warm.features[name]
        if isinstance(feature, VectorFeature) and isinstance(known, VectorFeature) and known.is_label:
            frequency = np.bincount(known.matrix.indices, minlength=known.matrix.shape[1])
            rarity = np.log((warm.n_items + 1) / (frequency + 1)).astype(np.float32)
            weighted = sp.csr_array(feature.matrix @ sp.diags_array(rarity), dtype=np.float32)
            features[name] = VectorFeature(weighted, feature.terms)
        else:
            features[name] = feature
    return FeatureSet(features, items.n_items)


class ContentKNN(ArrayModel[ContentKNNConfig]):
    """The clicks among an item's nearest neighbours, which attributes alone choose."""

    name: ClassVar[str] = "content_knn"
    config_type: ClassVar[type[ModelConfig]] = ContentKNNConfig
    item_array: ClassVar[str] = "neighbours"
    scores_cold_items: ClassVar[bool] = True

    def __init__(self, config: ContentKNNConfig | None = None) -> None:
        super().__init__(config)
        self._features: FeatureSet | None = None

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Find the neighbours of all items.

        Raises
        ------
        DataError
            If no item has a click.
        ConfigError
            If `weights` names an attribute that is not used.
        SingularMatrixError
            If weights are learned and no attribute tells the warm items apart.
        CatalogTooLargeError
            If the similarities do not fit in memory.
        """
        self.check_options(options)
        if len(train.warm_items) == 0:
            raise DataError("No item has a click, so there is no neighbour. Filter less, or check the split.")
        self._check_weights(train.features.features)
        self.check_size(*train.interactions.shape)
        shared, config = computations or Computations(), self.config
        if config.weights == "correlation":
            weights = shared.get(co_click_weights, train, idf=config.idf, delta=config.delta)
        else:
            given = config.weights if isinstance(config.weights, dict) else {}
            weights = np.array([given.get(name, 1.0) for name in train.features.features])
        chosen = tuple(map(float, weights))
        found, similar = shared.get(neighbours, train, k=config.k, idf=config.idf, delta=config.delta, weights=chosen)
        self._features = train.features
        self._state = {
            "warm_items": train.warm_items,
            "damping": ((train.clicks[train.warm_items] + _DAMPING_CLICKS) ** -config.alpha).astype(np.float32),
            "weights": np.asarray(weights, np.float64),
            "neighbours": found,
            "similarities": similar,
        }
        return self

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what the similarities of a block of items to all others take, and the neighbours that are kept."""
        block = 4 * (_MANY_ATTRIBUTES + 4) * _ITEMS_PER_BLOCK * n_items
        return block + 24 * n_items * min(self.config.k, n_items)

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check :meth:`memory_bytes`."""
        self.require_size(
            n_users,
            n_items,
            purpose=f"The neighbours of {n_items:,} items",
            way_out="Use a smaller k, fewer items through the filters (min_item_interactions), or more memory.",
        )

    def check_attributes(self, kinds: Mapping[str, AttributeKind]) -> None:
        """Raise :class:`~coldray.core.errors.ConfigError` if `weights` names an attribute that is not used."""
        self._check_weights(kinds)

    def scorer(self, items: Items) -> Scorer:
        """Return the function that adds up, for each of `items`, its neighbours among the clicks."""
        self.check_fitted()
        warm, damping = self._state["warm_items"], self._state["damping"]
        found, similar = self._state["neighbours"][items], self._state["similarities"][items]
        total = similar.sum(axis=1, keepdims=True, dtype=np.float64) ** self.config.normalisation
        weights = (damping[found] * similar / np.where(total > 0, total, 1)).astype(np.float32)
        starts = np.arange(len(found) + 1) * found.shape[1]
        columns = sp.csr_array((weights.ravel(), found.ravel(), starts), shape=(len(found), len(warm)))
        by_neighbour = sp.csr_array(columns.T)

        def scores(histories: sp.csr_array) -> Scores:
            summed = (sp.csr_array(histories[:, warm]) @ by_neighbour).toarray()
            if self.config.user_normalisation:
                summed /= np.maximum(np.diff(histories.indptr), 1)[:, None].astype(np.float32)
            return np.asarray(summed, np.float32)

        return scores

    def add_items(self, features: FeatureSet) -> Self:
        """Return a model with the items of `features` appended, beside their neighbours among the warm items."""
        self.check_fitted()
        known = self._features
        if known is None:  # pragma: no cover  check_fitted has raised
            raise AssertionError
        own = np.full(features.n_items, -1)
        config, warm = self.config, known.take(self._state["warm_items"])
        weights = tuple(map(float, self._state["weights"]))
        added = _nearest_items(features, warm, own, k=config.k, idf=config.idf, delta=config.delta, weights=weights)
        extended = type(self)(self.config)
        extended._features = known.append(features)
        extended._state = dict(self._state)
        for name, rows in zip(("neighbours", "similarities"), added, strict=True):
            extended._state[name] = np.concatenate([self._state[name], rows])
        return extended

    @classmethod
    def from_state(cls, config: ContentKNNConfig, state: Mapping[str, npt.NDArray[Any]], features: FeatureSet) -> Self:
        """Rebuild the model; `features` are those of all its items."""
        model = super().from_state(config, state, features)
        model._features = features
        return model

    def _check_weights(self, attributes: Mapping[str, Any]) -> None:
        for name in self.config.weights if isinstance(self.config.weights, dict) else ():
            if name not in attributes:
                raise ConfigError(
                    f"weights names the attribute {name!r}, which is not used.{nearest(name, attributes)} "
                    f"Used: {choices(attributes)}."
                )
