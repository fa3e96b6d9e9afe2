"""VAE with MARec's alignment: a variational autoencoder of clicks that scores items nobody has clicked.

Source: Monteil et al., *MARec: Metadata Alignment for cold-start Recommendation*, RecSys 2024, Eq. 7: what is aligned
is the autoencoder of Liang et al. (:mod:`~coldray.models.neural.vae`) in place of a linear one. The mixture of
similarities is learnt as in :mod:`~coldray.models.marec.model`. The network is in
:mod:`~coldray.models.neural.vae_marec_network`, the loss in
:mod:`~coldray.models.neural.vae_marec_training`.

Notation used for shapes: I items, W warm ones, J aligned ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from coldray.core.errors import DataError
from coldray.features.builder import AttributeKind
from coldray.features.feature_set import FeatureSet
from coldray.models.base import ModelConfig, TrainingSet
from coldray.models.computations import Computations
from coldray.models.marec.alignment import Alignment
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.mixture import moments_bytes
from coldray.models.marec.model import aligned_similarity, mixture_weights
from coldray.models.marec.similarity import Similarities, check_delta, mix
from coldray.models.neural.base import INPUTS, NeuralModel
from coldray.models.neural.vae_marec_network import (
    AlignedAutoencoder,
    AlignedItems,
    VAEMARecConfig,
    aligned_training_bytes,
)
from coldray.models.neural.vae_marec_training import VAEMARecTask
from coldray.models.neural.validation import Validation
from coldray.models.state import Arrays
from coldray.models.transfer.similarity import arrays_under


class VAEMARec(NeuralModel[VAEMARecConfig]):
    """The multinomial variational autoencoder, aligned with item attributes."""

    name: ClassVar[str] = "vae_marec"
    config_type: ClassVar[type[ModelConfig]] = VAEMARecConfig
    scores_cold_items: ClassVar[bool] = True

    def __init__(self, config: VAEMARecConfig | None = None) -> None:
        super().__init__(config)
        self._features = FeatureSet({}, 0)
        self._shared: tuple[TrainingSet, Computations] | None = None

    def fit(self, train: TrainingSet, computations: Computations | None = None) -> Self:
        """Learn the mixture of similarities and train the network.

        Raises
        ------
        DataError
            If there is no click or no attribute.
        SingularMatrixError
            If the weights of the mixture are not determined.
        CatalogTooLargeError
            If the training does not fit in memory.
        DivergedError
            If the loss is not finite any more.
        """
        if not train.features.features:
            raise DataError(f"{train.key}: {self.name} aligns clicks with attributes; without any, use vae.")
        # What is left after some items are held out is another set at each seed: only the whole one is shared.
        self._shared = (train, computations or Computations())
        try:
            super().fit(train)
        finally:
            self._shared = None
        self._features = train.features
        return self

    def inputs(self, train: TrainingSet) -> Arrays:
        """Return the alignment of the items, and the clicks of each."""
        shared = Computations()
        if self._shared is not None and self._shared[0] is train:
            shared = self._shared[1]
        config = self.config
        marec = MARecConfig(delta=config.delta, w0=config.w0, order=config.order, learner=config.learner)
        mixture = mixture_weights(train, shared, marec)
        weights = tuple(map(float, mixture))
        similarity = shared.get(
            aligned_similarity, train, delta=config.smoothing, order=config.order, weights=weights, lambda_0=0.0
        )
        alignment = Alignment.of(train, lambda_0=0.0)
        lengths = np.sqrt((similarity**2).sum(axis=0))
        items = AlignedItems(
            warm=train.warm_items.astype(np.int64),
            aligned=alignment.items.astype(np.int64),
            strength=alignment.strength,
            similarity=similarity,
            mixture=mixture,
            scale=np.array([1 / (lengths.mean() if lengths.any() else 1)], np.float32),
        )
        return {**items.arrays(), "clicks": train.clicks[train.warm_items]}

    def network(self, inputs: Arrays, n_items: int) -> AlignedAutoencoder:
        """Return a new network."""
        return AlignedAutoencoder(inputs["clicks"], AlignedItems.from_arrays(inputs), self.config)

    def task(self, train: TrainingSet, inputs: Arrays, validation: Validation | None) -> VAEMARecTask:
        """Return the training on `train`."""
        return VAEMARecTask(self.config, train, AlignedItems.from_arrays(inputs), validation)

    def check_attributes(self, kinds: Mapping[str, AttributeKind]) -> None:
        """Check that a δ by attribute names every attribute compared by its cosine, and nothing else."""
        check_delta(self.config.smoothing, kinds, [name for name, kind in kinds.items() if kind != "number"])

    def add_items(self, features: FeatureSet) -> Self:
        """Return a model with the items of `features` appended, as if they had been cold when it was fitted.

        Their presence in the fit would also have changed what was learnt of the others; that stays as it was.
        """
        self.check_fitted()
        inputs = arrays_under(INPUTS, self._state)
        items, n_new = AlignedItems.from_arrays(inputs), features.n_items
        similarities = Similarities(self._features.take(items.warm), features, self.config.smoothing)
        columns = mix(similarities, items.mixture, self.config.order)
        extended = AlignedItems(
            warm=items.warm,
            aligned=np.concatenate([items.aligned, np.arange(self.n_items, self.n_items + n_new)]),
            strength=np.concatenate([items.strength, np.ones(n_new, np.float32)]),
            similarity=np.concatenate([items.similarity, columns], axis=1),
            mixture=items.mixture,
            scale=items.scale,
        )
        model = self.extended({**extended.arrays(), "clicks": inputs["clicks"]}, n_new)
        model._features = self._features.append(features)
        return model

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what the mixture or the training takes, whichever is more."""
        return max(moments_bytes(n_items, 1), aligned_training_bytes(n_users, n_items, self.config))

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check :meth:`memory_bytes`."""
        self.require_size(
            n_users,
            n_items,
            purpose=f"VAE with the alignment of {n_items:,} items",
            way_out="Use a smaller batch_size or hidden_dim, or fewer items through the filters "
            "(min_item_interactions).",
        )

    @classmethod
    def from_state(cls, config: VAEMARecConfig, state: Mapping[str, npt.NDArray[Any]], features: FeatureSet) -> Self:
        """Rebuild the model; `features` are those of all its items."""
        model = super().from_state(config, state, features)
        model._features = features
        return model
