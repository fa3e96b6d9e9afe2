"""VAE with MARec's alignment: a variational autoencoder of clicks that scores items nobody has clicked.

Source: Monteil et al., *MARec: Metadata Alignment for cold-start Recommendation*, RecSys 2024, Eq. 7: what is aligned
is the autoencoder of Liang et al. (:mod:`~coldray.models.neural.vae`) in place of a linear one. The mixture of
similarities is learnt as in :mod:`~coldray.models.marec.model`.

The last layer of a plain autoencoder has a row for each item. Here the row of a cold item c is ``v_c = Σ_w g_wc a_w``,
with a_w learnt for each warm item and g the mixture of attribute similarities: an item that comes later has one too.
Its bias is the mean of the warm ones, and the same sum of learnt numbers.

The loss of a user is that of the plain one, minus ``α Σ_j f_uj log π_j(z_u)``: what the attributes say of a user,
``f = X g D``, counts as clicks do (Eq. 6–7). A multinomial has no counts below 0, which unconstrained weights of the
mixture can give; they are taken as 0.

Notation used for shapes: U users, b of them in a batch, I items, W warm ones, C cold ones, J aligned ones, h hidden
units, n items asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import nn
from torch.nn import functional

from coldray.core.errors import DataError
from coldray.evaluation.ranking import Scorer
from coldray.features.builder import AttributeKind
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, ModelConfig, TrainingSet
from coldray.models.computations import Computations
from coldray.models.marec.alignment import Alignment
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.mixture import Learner, moments_bytes
from coldray.models.marec.model import aligned_similarity, mixture_weights
from coldray.models.marec.similarity import Delta, Order, Similarities, check_delta, mix
from coldray.models.neural.base import INPUTS, NeuralModel
from coldray.models.neural.vae import (
    COPIES,
    Encoded,
    VAEConfig,
    VAETask,
    VariationalAutoencoder,
    last_width,
    log_likelihood,
    training_bytes,
    weight_bytes,
)
from coldray.models.neural.validation import Validation
from coldray.models.state import Arrays
from coldray.models.transfer.similarity import arrays_under
from coldray.training.options import FitConfig, FitOptions
from coldray.training.task import Batch, Loss, Step


class VAEMARecConfig(VAEConfig):
    """Parameters of `VAEMARec`; those of the mixture are named as MARec's are."""

    alpha: NonNegativeFloat = 1.0
    """α, weight of the aligned clicks beside the true ones; 0 teaches nothing of cold items."""
    delta: PositiveFloat | dict[str, PositiveFloat] = 20.0
    """δ, smoothing of the cosine: one number, or one for each attribute."""
    w0: float = Field(default=0.2, gt=0, le=1)
    """w₀, weight of a cell without a click while the similarity weights are learned."""
    order: Order = 2
    """1: attributes alone. 2: products of two attributes too."""
    learner: Learner = "regression"
    """How the similarity weights μ are found: ``regression``, ``nonnegative`` (μ ≥ 0) or ``correlation``."""
    batch_size: PositiveInt = 500
    """Users of a step over all workers together; all of them where there are fewer."""

    @property
    def smoothing(self) -> Delta:
        """δ in a hashable form."""
        return tuple(sorted(self.delta.items())) if isinstance(self.delta, dict) else self.delta


@dataclass(frozen=True, eq=False)
class _AlignedItems:
    """Which items are warm and which are aligned, and how similar these are."""

    warm: npt.NDArray[np.int64]
    """Items with clicks, ascending ``[W]``."""
    aligned: npt.NDArray[np.int64]
    """Items with few clicks or none, ascending ``[J]``."""
    strength: npt.NDArray[np.float32]
    """``max(p − r_j, 0) / p`` of each of these ``[J]``."""
    similarity: npt.NDArray[np.float32]
    """g ``[W, J]``."""
    mixture: npt.NDArray[np.float64]
    """μ, a weight a term."""
    scale: npt.NDArray[np.float32]
    """What makes a column of g about as long as one, ``[1]``; it stays what it was when items are added."""

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Read the fields from arrays of their names."""
        return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})

    def arrays(self) -> Arrays:
        """Return the fields by name."""
        return dict(vars(self))

    @property
    def n_items(self) -> int:
        """Number of items that are warm, cold or both aligned and warm."""
        return len(np.union1d(self.warm, self.aligned))

    @property
    def cold(self) -> npt.NDArray[np.int64]:
        """Items without a click, ascending ``[C]``: all of them are aligned."""
        return np.setdiff1d(self.aligned, self.warm)

    @property
    def places(self) -> npt.NDArray[np.int64]:
        """Where the logits of each item are, ``[I]``: the warm ones come first, then the cold ones."""
        places = np.empty(self.n_items, np.int64)
        places[np.concatenate([self.warm, self.cold])] = np.arange(self.n_items)
        return places


class _AlignedAutoencoder(VariationalAutoencoder):
    """A variational autoencoder of the warm items that also has logits of the cold ones.

    Parameters
    ----------
    clicks
        Clicks of each warm item ``[W]``.
    items
        What the alignment knows of all items.
    config
        Sizes of the layers.
    """

    similarity: torch.Tensor

    def __init__(self, clicks: npt.NDArray[np.integer[Any]], items: _AlignedItems, config: VAEConfig) -> None:
        super().__init__(clicks, config)
        self.alignment = nn.Linear(self.items.in_features, len(clicks))  # a, and what gives a cold item its bias
        nn.init.xavier_uniform_(self.alignment.weight)
        nn.init.zeros_(self.alignment.bias)
        cold = np.isin(items.aligned, items.warm, invert=True)
        similarity = torch.from_numpy(np.ascontiguousarray(items.similarity[:, cold].T) * items.scale)
        self.register_buffer("similarity", similarity, persistent=False)  # [C, W]
        self.warm, self.places = items.warm, items.places

    def rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return weights ``[W + C, h]`` and biases ``[W + C]`` of the last layer."""
        mean = self.items.bias.mean()
        return (
            torch.cat([self.items.weight, self.similarity @ self.alignment.weight]),
            torch.cat([self.items.bias, mean + self.similarity @ self.alignment.bias]),
        )

    def forward(self, batch: Batch) -> tuple[torch.Tensor, Encoded]:
        """Return logits ``[b, W + C]`` of z drawn once for each user, and what it is drawn from."""
        hidden, encoded = self.sample(batch)
        return functional.linear(hidden, *self.rows()), encoded

    def scorer(self, items: Items) -> Scorer:
        """Return the function from histories to the logits of items."""
        weights, biases = self.rows()
        places = torch.from_numpy(self.places[items]).to(weights.device)
        weight, bias = weights[places], biases[places]  # [n, h], [n]

        def scores(histories: sp.csr_array) -> npt.NDArray[np.float32]:
            hidden = self.hidden(sp.csr_array(histories[:, self.warm]))
            return functional.linear(hidden, weight, bias).float().cpu().numpy()

        return scores


def _aligned_weight_bytes(n_items: int, config: VAEConfig) -> int:
    """Return what the weights take at most: those of a plain one, and what each item says of the cold ones."""
    return weight_bytes(n_items, config) + 4 * n_items * (last_width(config) + 1)


def _aligned_training_bytes(n_users: int, n_items: int, config: VAEConfig) -> int:
    """Return what a training holds at its peak, with the similarities.

    Half of the items are taken to be cold, when the similarities of warm and cold ones are the most; the network holds
    them too, and their target is of the size of a batch of logits.
    """
    similarities = 2 * 4 * (n_items // 2) * (n_items - n_items // 2)
    more = COPIES * (_aligned_weight_bytes(n_items, config) - weight_bytes(n_items, config))
    target = 3 * 4 * min(config.batch_size, n_users) * n_items
    return training_bytes(n_users, n_items, config) + more + similarities + target


class _VAEMARecTask(VAETask):
    """The training of :class:`_AlignedAutoencoder`.

    Parameters
    ----------
    config
        Of the model.
    train
        What is trained on.
    items
        The alignment of its items.
    validation
        What is validated on; None trains for all epochs.
    """

    name = "VAEMARec"
    config: VAEMARecConfig

    def __init__(
        self, config: VAEMARecConfig, train: TrainingSet, items: _AlignedItems, validation: Validation | None
    ) -> None:
        self.clicks = sp.csr_array(train.interactions[:, items.warm])
        super().__init__(config, self.clicks, validation)
        self.items = items
        self.aligned = torch.from_numpy(items.places[items.aligned])

    def build(self) -> _AlignedAutoencoder:
        """Return a new network."""
        clicks = np.bincount(self.clicks.indices, minlength=self.clicks.shape[1])
        return _AlignedAutoencoder(clicks, self.items, self.config)

    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return the same as for clicks alone, and ``aligned`` float32 ``[b, J]``, what the attributes say."""
        clicks = self.clicks[self.users[examples].numpy()]
        target = np.maximum(clicks @ self.items.similarity, 0) * self.items.strength
        return {**super().batch(examples, generator), "aligned": torch.from_numpy(np.asarray(target, np.float32))}

    def loss(self, module: nn.Module, batch: Batch, step: Step) -> Loss:
        """Return the negative log-likelihood of clicks and aligned clicks, and the weighted divergence of each user."""
        logits, encoded = module(batch)
        shares = torch.log_softmax(logits.float(), dim=1)
        aligned = (batch["aligned"] * shares[:, self.aligned.to(shares.device)]).sum(dim=1)
        likelihoods = {
            "log-likelihood": log_likelihood(logits, batch["click_rows"], batch["clicks"]),
            "alignment": self.config.alpha * aligned,
        }
        return self.objective(likelihoods, encoded, step)


class VAEMARec(NeuralModel[VAEMARecConfig]):
    """The multinomial variational autoencoder, aligned with item attributes."""

    name: ClassVar[str] = "vae_marec"
    config_type: ClassVar[type[ModelConfig]] = VAEMARecConfig
    way_out: ClassVar[str] = (
        "Use a smaller batch_size or hidden_dim, or fewer items through the filters (min_item_interactions)."
    )
    scores_cold_items: ClassVar[bool] = True

    def __init__(self, config: VAEMARecConfig | None = None) -> None:
        super().__init__(config)
        self._features = FeatureSet({}, 0)
        self._shared: tuple[TrainingSet, Computations] | None = None

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
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
            super().fit(train, computations, options)
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
        mixture = mixture_weights(train, shared, marec, FitConfig())
        weights = tuple(map(float, mixture))
        similarity = shared.get(
            aligned_similarity, train, delta=config.smoothing, order=config.order, weights=weights, lambda_0=0.0
        )
        alignment = Alignment.of(train, lambda_0=0.0)
        lengths = np.sqrt((similarity**2).sum(axis=0))
        items = _AlignedItems(
            warm=train.warm_items.astype(np.int64),
            aligned=alignment.items.astype(np.int64),
            strength=alignment.strength,
            similarity=similarity,
            mixture=mixture,
            scale=np.array([1 / (lengths.mean() if lengths.any() else 1)], np.float32),
        )
        return {**items.arrays(), "clicks": train.clicks[train.warm_items]}

    def network(self, inputs: Arrays, n_items: int) -> _AlignedAutoencoder:
        """Return a new network."""
        return _AlignedAutoencoder(inputs["clicks"], _AlignedItems.from_arrays(inputs), self.config)

    def task(self, train: TrainingSet, inputs: Arrays, validation: Validation | None) -> _VAEMARecTask:
        """Return the training on `train`."""
        return _VAEMARecTask(self.config, train, _AlignedItems.from_arrays(inputs), validation)

    def check_attributes(self, kinds: Mapping[str, AttributeKind]) -> None:
        """Check that a δ by attribute names every attribute compared by its cosine, and nothing else."""
        check_delta(self.config.smoothing, kinds, [name for name, kind in kinds.items() if kind != "number"])

    def add_items(self, features: FeatureSet) -> Self:
        """Return a model with the items of `features` appended, as if they had been cold when it was fitted.

        Their presence in the fit would also have changed what was learnt of the others; that stays as it was.
        """
        self.check_fitted()
        inputs = arrays_under(INPUTS, self._state)
        items, n_new = _AlignedItems.from_arrays(inputs), features.n_items
        similarities = Similarities(self._features.take(items.warm), features, self.config.smoothing)
        columns = mix(similarities, items.mixture, self.config.order)
        extended = _AlignedItems(
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
        return max(moments_bytes(n_items, 1), _aligned_training_bytes(n_users, n_items, self.config))

    @classmethod
    def from_state(cls, config: VAEMARecConfig, state: Mapping[str, npt.NDArray[Any]], features: FeatureSet) -> Self:
        """Rebuild the model; `features` are those of all its items."""
        model = super().from_state(config, state, features)
        model._features = features
        return model
