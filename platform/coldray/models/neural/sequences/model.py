"""SASRec: the next click from those before it, by self-attention over items that are known by id and by attributes.

An item is ``v_j = A x_j + e_j``: a projection of its attributes and, for one with clicks, a vector of its own. In
training e_j is left out by chance, so that an item nobody has clicked is placed by its attributes alone. The vectors of
the clicks of a session, with those of their places added, go through blocks of self-attention, and what stands at the
last click is held against the vectors of all items: ``s_j = o_T · v_j``.

Source: Kang and McAuley, *Self-attentive sequential recommendation* (SASRec), ICDM 2018; clicks that are left out and
found from both sides, Sun et al., *BERT4Rec*, CIKM 2019; many negatives with binary cross-entropy, Petrov and
Macdonald, *gSASRec*, RecSys 2023; cross-entropy over all items in its place, Klenitskiy and Vasilev, *Turning dross
into gold loss: is BERT4Rec really better than SASRec?*, RecSys 2023.
"""

from __future__ import annotations

from typing import ClassVar, Self

import scipy.sparse as sp
import torch

from coldray.data.signals import Reads
from coldray.evaluation.ranking import Scorer
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, ModelConfig, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.neural.base import INPUTS, NeuralModel
from coldray.models.neural.item_attributes import ItemAttributes
from coldray.models.neural.sequences.config import SASRecConfig
from coldray.models.neural.sequences.network import _BLOCK_SESSIONS, SASRecNetwork
from coldray.models.neural.sequences.order import hold_out_next, require_order
from coldray.models.neural.sequences.task import SASRecTask
from coldray.models.neural.two_tower import ENTRIES, TERMS
from coldray.models.neural.validation import Validation
from coldray.models.state import Arrays
from coldray.models.transfer.similarity import arrays_under
from coldray.training.options import FitOptions


class SASRec(NeuralModel[SASRecConfig]):
    """What is clicked next, by self-attention."""

    name: ClassVar[str] = "sasrec"
    config_type: ClassVar[type[ModelConfig]] = SASRecConfig
    way_out: ClassVar[str] = (
        "Use a smaller batch_size, max_length or embedding_dim, set n_negatives, or use fewer items through the "
        "filters (min_item_interactions)."
    )
    scores_cold_items: ClassVar[bool] = True

    def __init__(self, config: SASRecConfig | None = None) -> None:
        super().__init__(config)
        self._vectors: torch.Tensor | None = None

    @classmethod
    def needs_attributes(cls) -> bool:
        """Tell that items with clicks have vectors of their own, which do."""
        return False

    @property
    def reads(self) -> Reads:
        """The order of clicks."""
        return Reads(order=True)

    def inputs(self, train: TrainingSet) -> Arrays:
        """Return the encoded attributes, and which items have vectors of their own."""
        return {**ItemAttributes.of(train).arrays(), "warm": train.warm_items}

    def network(self, inputs: Arrays, n_items: int) -> SASRecNetwork:
        """Return a new network."""
        return SASRecNetwork(self.config, ItemAttributes.from_arrays(inputs), inputs["warm"])

    def task(self, train: TrainingSet, inputs: Arrays, validation: Validation | None) -> SASRecTask:
        """Return the training on `train`."""
        return SASRecTask(self.config, train, ItemAttributes.from_arrays(inputs), validation)

    def hold_out(self, train: TrainingSet) -> tuple[TrainingSet, Validation | None]:
        """Hold out the last clicks; nothing where too few are left to learn from."""
        return hold_out_next(train, self.config)

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Train the network.

        Raises
        ------
        EmptyDatasetError
            If no user has two clicks, or those who have clicked everything and something has to be drawn.
        DataError
            If the clicks have no order, or attributes tell no item from the others.
        CatalogTooLargeError
            If the training does not fit in memory.
        DivergedError
            If the loss is not finite any more.
        """
        require_order(train)
        self._vectors = None
        return super().fit(train, computations, options)

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what weights with their moments, attributes, the clicks of a batch and their logits take."""
        config, dim = self.config, self.config.embedding_dim
        weights = 5 * dim * ((TERMS + 1) * n_items + config.max_length + 12 * config.n_layers * dim)
        attributes = 3 * 3 * ENTRIES * n_items
        clicks = min(config.batch_size, n_users) * min(config.max_length, n_items)
        kept = 5 * dim * (4 + 16 * config.n_layers) + 2 * config.n_heads * config.n_layers * config.max_length
        logits = 3 * (n_items if config.n_negatives is None else config.n_negatives + dim)
        scored = min(_BLOCK_SESSIONS, n_users) * min(config.max_length, n_items) * (12 * dim + config.max_length)
        return 4 * (weights + attributes + 3 * dim * n_items + max(clicks * (kept + logits), scored))

    def scorer(self, items: Items) -> Scorer:
        """Return the function that scores `items` for histories, by the vectors that are made once."""
        network = self.fitted_network
        if not isinstance(network, SASRecNetwork):  # pragma: no cover  network() makes no other
            raise TypeError("This is no network of SASRec.")
        with torch.no_grad():
            if self._vectors is None:
                self._vectors = network.all_items()
            found = network.scorer_of(items, self._vectors)

        def scores(histories: sp.csr_array) -> Scores:
            with torch.no_grad():
                return found(histories)

        return scores

    def add_items(self, features: FeatureSet) -> Self:
        """Return a model with the items of `features` appended, whose vectors their attributes give."""
        self.check_fitted()
        inputs = arrays_under(INPUTS, self._state)
        longer = ItemAttributes.from_arrays(inputs).extended(features)
        return self.extended({**longer.arrays(), "warm": inputs["warm"]}, features.n_items)
