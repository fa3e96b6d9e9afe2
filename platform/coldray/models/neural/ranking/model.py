"""Context-aware rankers: a factorisation machine, DeepFM and DCN-v2 over who asks, the moment and the item.

Sources: Rendle, *Factorization machines*, ICDM 2010; Guo et al., *DeepFM: A factorization-machine based neural network
for CTR prediction*, IJCAI 2017; Wang et al., *DCN V2: Improved deep & cross network and practical lessons for web-scale
learning to rank systems*, WWW 2021. There a user is a feature; here users are the clicks they have made, so that one
the fit never saw is served like all others. Pairs of a click and drawn items: Rendle et al. (BPR), UAI 2009.

Notation used for shapes: b histories, n items asked for, I items, F inputs of a field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from coldray.evaluation.ranking import Scorer
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, ModelConfig, ProfileScorer, Scores, TrainingSet
from coldray.models.neural.base import INPUTS, NeuralModel
from coldray.models.neural.item_attributes import ItemAttributes
from coldray.models.neural.ranking.askers import AskerEncoder
from coldray.models.neural.ranking.config import DCNConfig, DeepFMConfig, FMConfig
from coldray.models.neural.ranking.network import RankingNetwork
from coldray.models.neural.ranking.task import RankingTask, asking_rows
from coldray.models.neural.validation import Validation, hold_out_clicks, hold_out_items, hold_out_last
from coldray.models.state import Arrays
from coldray.models.transfer.similarity import arrays_under

_ASKERS = "askers."
"""What the names of arrays begin with that say how who asks is encoded."""
_TERMS, _ENTRIES, _CONTEXT, _AT = 8, 48, 1000, 182
"""Terms and entries of attributes of an item, terms of who asks, and inputs of an item at a moment, that the check of
memory reckons with."""
_COPIES = 5
"""Arrays of the size of the weights while these are trained: themselves, the best so far, gradients, two averages."""
_ACTIVATIONS = 3
"""Arrays of the size of what a batch computes: the values, and gradients of them on the way back."""
_BLOCK = 1 << 24
"""Numbers of blocks of pairs while all items are scored."""
ConfigT = TypeVar("ConfigT", bound=FMConfig)


@dataclass(frozen=True, eq=False)
class _MomentValidation(Validation):
    """A validation that knows when its users ask."""

    asking: npt.NDArray[np.intp]
    """Rows of moments ``[U]``, -1 where nothing is known."""


class _Ranker(NeuralModel[ConfigT]):
    """What all rankers share."""

    way_out: ClassVar[str] = (
        "Use a smaller embedding_dim or batch_size, or fewer items through the filters (min_item_interactions)."
    )
    scores_cold_items: ClassVar[bool] = True
    reads_moments: ClassVar[bool] = True

    def inputs(self, train: TrainingSet) -> Arrays:
        """Return the encoded attributes of items, which have a feature of their own, and how who asks is encoded.

        Raises
        ------
        DataError
            If there are attributes of items, of users or of moments, but none tells any from the others.
        """
        asked = AskerEncoder.of(train, self.config.seed).arrays()
        return {
            **ItemAttributes.of(train).arrays(),
            "warm": train.warm_items,
            **{_ASKERS + name: values for name, values in asked.items()},
        }

    def network(self, inputs: Arrays, n_items: int) -> RankingNetwork:
        """Return a new network."""
        return RankingNetwork(self.config, ItemAttributes.from_arrays(inputs), inputs["warm"], _encoder(inputs))

    def task(self, train: TrainingSet, inputs: Arrays, validation: Validation | None) -> RankingTask:
        """Return the training on `train`."""
        asking = validation.asking if isinstance(validation, _MomentValidation) else None
        attributes = ItemAttributes.from_arrays(inputs)
        return RankingTask(self.config, train, attributes, _encoder(inputs), validation, asking)

    def hold_out(self, train: TrainingSet) -> tuple[TrainingSet, Validation | None]:
        """Return what is trained on at first, and what training is stopped by: lists at the moments of held-out clicks.

        Where no time is known no click is the last, and clicks are held out by chance.
        """
        config = self.config
        if config.validation_share == 0:
            return train, None
        generator = np.random.default_rng(config.seed)
        if config.stop_by == "last" and train.moments is not None and np.isfinite(train.moments.times).any():
            times = train.moments.times[train.interactions.data.astype(np.intp) - 1]
            rest, validation = hold_out_last(train, config.validation_users, generator, times)
        else:
            by_items = config.stop_by == "items" and bool(train.features.features)
            hold_out = hold_out_items if by_items else hold_out_clicks
            rest, validation = hold_out(train, config.validation_share, config.validation_users, generator)
        if validation is None:
            return rest, None
        return rest, _MomentValidation(**vars(validation), asking=asking_rows(train, rest))

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what a training takes: weights and what Adam keeps of them, attributes, a batch, and blocks."""
        config = self.config
        size = 1 + config.embedding_dim
        weights = size * ((2 + _TERMS) * n_items + _CONTEXT) + self._layer_weights()
        pairs = config.batch_size * (1 + config.negatives)
        batch = pairs * (4 * size + _AT + self._units()) + config.batch_size * (config.history + 8) * size
        return 4 * (_COPIES * weights + 6 * _ENTRIES * n_items + _ACTIVATIONS * batch + _BLOCK)

    def _layer_weights(self) -> int:
        """Return how many weights there are beside those of features."""
        return 1

    def _units(self) -> int:
        """Return how many numbers a pair is computed by, beside its features."""
        return 2

    def scorer(self, items: Items) -> Scorer:
        """Return the function that scores `items` for users of whom nothing is known but their clicks."""
        scores = self.profile_scorer(items)

        def of_clicks(histories: sp.csr_array) -> Scores:
            return scores(histories, FeatureSet({}, histories.shape[0]))

        return of_clicks

    def profile_scorer(self, items: Items) -> ProfileScorer:
        """Return the function that scores `items` for histories and what is known of who asks, and when."""
        network = self.fitted_network
        if not isinstance(network, RankingNetwork):  # pragma: no cover  network() makes no other
            raise TypeError("This is no network of a ranker.")
        encoder = _encoder(arrays_under(INPUTS, self._state))
        with torch.no_grad():
            scorer = network.asker_scorer(items)

        def of_all(histories: sp.csr_array, askers: FeatureSet) -> Scores:
            with torch.no_grad():
                return np.ascontiguousarray(scorer(histories, encoder.encode(askers)), np.float32)

        return of_all

    def add_items(self, features: FeatureSet) -> Self:
        """Return a model with the items of `features` appended, which their attributes place."""
        self.check_fitted()
        inputs = arrays_under(INPUTS, self._state)
        longer = ItemAttributes.from_arrays(inputs).extended(features)
        return self.extended({**inputs, **longer.arrays()}, features.n_items)


def _encoder(inputs: Arrays) -> AskerEncoder:
    return AskerEncoder.from_arrays(arrays_under(_ASKERS, inputs))


class FM(_Ranker[FMConfig]):
    """A factorisation machine: inner products of the vectors of all features of user, moment and item."""

    name: ClassVar[str] = "fm"
    config_type: ClassVar[type[ModelConfig]] = FMConfig


class DeepFM(_Ranker[DeepFMConfig]):
    """The factorisation machine, and layers over the same vectors."""

    name: ClassVar[str] = "deepfm"
    config_type: ClassVar[type[ModelConfig]] = DeepFMConfig

    def _layer_weights(self) -> int:
        config = self.config
        return config.hidden_dim * (5 * config.embedding_dim + config.n_layers * (config.hidden_dim + 2))

    def _units(self) -> int:
        return 3 * self.config.n_layers * self.config.hidden_dim


class DCN(_Ranker[DCNConfig]):
    """DCN-v2: layers that cross the fields of user, moment and item with each other, beside plain ones."""

    name: ClassVar[str] = "dcn"
    config_type: ClassVar[type[ModelConfig]] = DCNConfig

    def _layer_weights(self) -> int:
        config, size = self.config, 5 * self.config.embedding_dim
        layers = config.hidden_dim * (size + config.n_layers * (config.hidden_dim + 2))
        return layers + config.cross_layers * size * ((2 * config.cross_rank if config.cross_rank else size) + 2)

    def _units(self) -> int:
        config = self.config
        return 3 * config.n_layers * config.hidden_dim + 5 * config.embedding_dim * (1 + 3 * config.cross_layers)
