"""What the field's cold-start networks share: factors of clicks that come first, and attributes that stand in for them.

Alternating least squares give factors v_j to the items with clicks; those of a user, x_u, are the ridge regression of
the history on them, so that one the fit never saw is served like all others. What is trained is how users and items go
into one space, in which a score is ``s_uj = u · z_j / √d``; an item without clicks goes there by its attributes alone.
All factors are scaled so that their entries have a mean square of 1, users and items apart.

Each step takes m clicks of a user, drawn from all of theirs, and as many items they have not clicked, drawn alike; a
model names the terms of its loss for these 2m items, the clicked ones first.

Notation used for shapes: b users of a batch, m clicks of each, n distinct items of a batch or items asked for, I items,
W of them with clicks, F inputs, d factors.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import nn

from coldray.evaluation.ranking import Scorer
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, Scores, TrainingSet
from coldray.models.linalg.weighted_ridge import RidgeParameters, WeightedRidge
from coldray.models.linear.als import ALS, ALSConfig
from coldray.models.neural.base import INPUTS, Network, NeuralConfig, NeuralModel, NeuralTask
from coldray.models.neural.inputs import bag
from coldray.models.neural.item_attributes import ItemAttributes
from coldray.models.neural.two_tower import ENTRIES, TERMS
from coldray.models.neural.validation import Validation
from coldray.models.state import Arrays
from coldray.models.transfer.networks import dense_tower
from coldray.models.transfer.similarity import arrays_under
from coldray.training.histories import Histories
from coldray.training.negatives import DrawnNegatives, NegativesConfig
from coldray.training.row_random import row_uniforms
from coldray.training.task import Batch, Loss, Step

_FACTORS, _SCALES, COUNTS = "factors", "scales", "counts"
"""Names of arrays that a network is built of."""


class ColdStartConfig(NeuralConfig):
    """Parameters that the cold-start networks share; some of those of the training have other defaults."""

    optimizer: Literal["adam", "adamw"] = "adamw"
    learning_rate: PositiveFloat = 2e-3
    weight_decay: NonNegativeFloat = 1e-3
    clip_norm: PositiveFloat | None = 5.0
    batch_size: PositiveInt = 256
    """Users of a step over all workers together; all of them where there are fewer."""
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    epochs: PositiveInt = 60
    patience: PositiveInt | None = 8
    embedding_dim: PositiveInt = 64
    """d, factors of users and items; fewer where there are fewer users or items with clicks."""
    hidden_dim: PositiveInt = 256
    """Units of the hidden layers."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of the hidden units left out in training."""
    positives: PositiveInt = 8
    """m, clicks of a user that a step learns from, and items they have not clicked."""
    factor_regularization: PositiveFloat = 50.0
    """λ of the factors that come first."""
    factor_alpha: PositiveFloat = 3.0
    """α of the factors that come first, by how much more a click is trusted than its absence."""


ConfigT = TypeVar("ConfigT", bound=ColdStartConfig)


class _FoldIn:
    """From histories to the scaled factors of users.

    Parameters
    ----------
    factors
        Of items, unscaled ``[I, d]``.
    scale
        What the factors of users are multiplied by.
    """

    def __init__(self, factors: npt.NDArray[np.float32], config: ColdStartConfig, scale: float = 1.0) -> None:
        self._ridge = WeightedRidge(factors, RidgeParameters(config.factor_alpha, config.factor_regularization))
        self._scale = scale

    def __call__(self, histories: sp.csr_array) -> torch.Tensor:
        """Return float32 ``[b, d]``."""
        return torch.from_numpy(self._ridge.solve(histories).rows * np.float32(self._scale))


def dot(users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """Return ``u · z / √d`` over the last dimension."""
    product: torch.Tensor = (users * items).sum(dim=-1) * users.shape[-1] ** -0.5
    return product


class ColdNetwork(Network):
    """Users and items in one space.

    Parameters
    ----------
    config
        Sizes and dropout.
    inputs
        Factors, their scales and the attributes of all I items, as :meth:`ColdStartModel.inputs` makes them.
    """

    terms: ClassVar[tuple[str, ...]]
    """Names of the terms of the loss."""

    def __init__(self, config: ColdStartConfig, inputs: Arrays) -> None:
        super().__init__()
        self.attributes = ItemAttributes.from_arrays(inputs)
        factors, scales = inputs[_FACTORS], inputs[_SCALES]
        self.dim = factors.shape[1]
        self.register_buffer("known", torch.from_numpy(inputs[COUNTS] > 0), persistent=False)  # [I]
        self.register_buffer("factors", torch.from_numpy(factors * scales[1]), persistent=False)  # [I, d]
        self._fold_in = _FoldIn(factors, config, float(scales[0]))
        hidden = config.hidden_dim
        self.user = dense_tower(self.dim, hidden, self.dim, config.dropout)

    known: torch.Tensor
    factors: torch.Tensor

    @abstractmethod
    def item_vectors(self, items: torch.Tensor, rows: Batch) -> torch.Tensor:
        """Return where items are placed, those without clicks by their attributes alone ``[n, d']``.

        Parameters
        ----------
        items
            Their indices ``[n]``.
        rows
            Their attributes, as :func:`~coldray.models.neural.inputs.bag` makes them.
        """

    @abstractmethod
    def losses(self, users: torch.Tensor, listed: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Return the :attr:`terms` of the loss ``[b]`` each, weighted.

        Parameters
        ----------
        users
            Factors of users ``[b, d]``.
        listed
            The distinct items of the batch ``[n]``, whose attributes it holds; ``batch["places"]`` tells which of them
            are the 2m of a user, the clicked ones first ``[b, 2m]``.
        """

    def user_vectors(self, factors: torch.Tensor) -> torch.Tensor:
        """Return where users are placed, given their factors ``[b, d]``."""
        placed: torch.Tensor = self.user(factors)
        return placed

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return the terms of the loss ``[b, terms]``."""
        return torch.stack(self.losses(batch["factors"], batch["listed"], batch), dim=1)

    def scorer(self, items: Items) -> Scorer:
        """Return the function from histories to scores of `items`."""
        device = self.factors.device
        places = torch.from_numpy(np.array(items, np.int64)).to(device)
        rows = {name: values.to(device) for name, values in bag(self.attributes.rows[np.asarray(items)]).items()}
        wanted = self.item_vectors(places, rows).T / self.dim**0.5  # [d', n]

        def scores(histories: sp.csr_array) -> Scores:
            vectors = self.user_vectors(self._fold_in(histories).to(device))
            found: Scores = (vectors @ wanted).float().cpu().numpy()
            return found

        return scores


class ColdStartTask(NeuralTask):
    """The training of such a network.

    Parameters
    ----------
    model
        Whose network is trained.
    train
        Clicks.
    inputs
        What the network is built of.
    validation
        What is validated on; None trains for all epochs.
    """

    def __init__(
        self, model: ColdStartModel[Any], train: TrainingSet, inputs: Arrays, validation: Validation | None
    ) -> None:
        super().__init__(validation)
        clicks = train.interactions
        self.name, self.terms = model.name, model.network_type.terms
        self.config, self._type, self._inputs = model.config, model.network_type, inputs
        self.histories = Histories.of(clicks)
        self.rows = Histories.of(ItemAttributes.from_arrays(inputs).rows)
        count = self.config.positives
        self.negatives = DrawnNegatives(NegativesConfig(count=count), clicks, items=train.warm_items)
        clicked = torch.from_numpy(np.diff(clicks.indptr) > 0)
        self.users = (clicked & self.negatives.possible).nonzero()[:, 0]
        self.factors = _FoldIn(inputs[_FACTORS], self.config, float(inputs[_SCALES][0]))(clicks)  # [U, d]

    def build(self) -> ColdNetwork:
        """Return a new network."""
        return self._type(self.config, self._inputs)

    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return the factors of users, 2m items of each, and the attributes of all items in that."""
        users = self.users[examples]
        starts, lengths = self.histories.starts[users], self.histories.starts.diff()[users]
        drawn = row_uniforms(generator, users[:, None], torch.arange(self.config.positives))
        clicked = self.histories.items[starts[:, None] + (drawn * lengths[:, None]).long()]  # [b, m]
        others = self.negatives.candidates(users, generator, rows=users)  # [b, m]
        listed, places = torch.unique(torch.cat([clicked, others], dim=1), return_inverse=True)
        bags = self.rows.bags(listed)
        return {
            "factors": self.factors[users],
            "listed": listed,
            "places": places,
            "indices": bags["history"],
            "offsets": bags["history_offsets"],
            "weights": bags["history_values"],
        }

    def loss(self, module: nn.Module, batch: Batch, step: Step) -> Loss:
        """Return the sum of the terms of each user, and the terms."""
        terms = module(batch)
        parts = dict(zip(self.terms, terms.unbind(dim=1), strict=True)) if len(self.terms) > 1 else {}
        return Loss(terms.sum(dim=1), parts)


class ColdStartModel(NeuralModel[ConfigT], Generic[ConfigT]):
    """A network over factors and attributes; a subclass names its :attr:`network_type`."""

    network_type: ClassVar[type[ColdNetwork]]
    way_out: ClassVar[str] = (
        "Use a smaller hidden_dim, embedding_dim, batch_size or positives, or fewer items through the filters "
        "(min_item_interactions)."
    )
    scores_cold_items: ClassVar[bool] = True

    def inputs(self, train: TrainingSet) -> Arrays:
        """Return the factors of the items with clicks, what they are scaled by, and the encoded attributes."""
        config = self.config
        attributes = ItemAttributes.of(train).arrays()
        factors = self._als.fit(train).state()["factors"]
        clicked = sp.csr_array(train.interactions[np.diff(train.interactions.indptr) > 0])
        users = _FoldIn(factors, config)(clicked).numpy()
        scales = [1 / max(float(np.sqrt(np.square(rows).mean())), 1e-12) for rows in (users, factors[train.warm_items])]
        return {**attributes, _FACTORS: factors, _SCALES: np.array(scales, np.float32), COUNTS: train.clicks}

    def network(self, inputs: Arrays, n_items: int) -> ColdNetwork:
        """Return a new network."""
        return self.network_type(self.config, inputs)

    def task(self, train: TrainingSet, inputs: Arrays, validation: Validation | None) -> ColdStartTask:
        """Return the training on `train`."""
        return ColdStartTask(self, train, inputs, validation)

    def stops_by_items(self, train: TrainingSet) -> bool:
        """Tell whether whole items are held out to stop by: not where attributes tell none from another."""
        return bool(train.features.features)

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what the factors that come first, weights with their moments, attributes, and a step take."""
        config, dim = self.config, self.config.embedding_dim
        pairs = 2 * min(config.batch_size, n_users) * config.positives
        weights = 5 * (self.first_layers * TERMS * n_items * config.hidden_dim + 2 * n_items * dim)
        factors = 3 * dim * (n_users + 2 * n_items)
        attributes = 3 * 3 * ENTRIES * n_items
        towers = 8 * (self.first_layers * config.hidden_dim + dim) * min(n_items, pairs)
        return 4 * (weights + factors + attributes + towers + 36 * dim * pairs) + self._als.memory_bytes(
            n_users, n_items
        )

    @property
    def _als(self) -> ALS:
        """What makes the factors."""
        config = self.config
        return ALS(
            ALSConfig(
                n_factors=config.embedding_dim,
                regularization=config.factor_regularization,
                alpha=config.factor_alpha,
                seed=config.seed,
            )
        )

    @property
    def first_layers(self) -> int:
        """How many layers read the attributes."""
        return 1

    def add_items(self, features: FeatureSet) -> ColdStartModel[ConfigT]:
        """Return a model with the items of `features` appended, which their attributes place."""
        self.check_fitted()
        inputs = arrays_under(INPUTS, self._state)
        longer = ItemAttributes.from_arrays(inputs).extended(features).arrays()
        none = np.zeros((features.n_items, inputs[_FACTORS].shape[1]), np.float32)
        factors = np.concatenate([inputs[_FACTORS], none])
        counts = np.append(inputs[COUNTS], np.zeros(features.n_items, np.int64))
        return self.extended({**inputs, **longer, _FACTORS: factors, COUNTS: counts}, features.n_items)
