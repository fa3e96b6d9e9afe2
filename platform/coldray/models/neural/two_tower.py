"""TwoTower: users by their clicks and items by their attributes, in one space in which the nearest items are searched.

An item is ``v_j = unit(a_j + e_j)``: a tower over its attributes and, for an item with clicks, a vector of its own. A
user is ``u = unit(t(h))`` with the history ``h = Σ (a_j + g_j)`` over the clicked items, scaled to unit length, and a
tower t that adds to it. In training e_j is left out by chance, so that an item is scored well by attributes alone.

For a positive i of user u, and the positives j of the whole batch that u has not clicked, the loss is
``−log exp(l_i) / (exp(l_i) + Σ_j exp(l_j))``, ``l_j = u · v_j / τ − c log Q_j``: a softmax over all items, estimated by
those of the batch. Q_j is how often an item comes into a batch, ``Σ_u x_uj / n_u / U``, as each user brings as many
clicks, drawn alike.

Source: Yi et al., *Sampling-bias-corrected neural modeling for large corpus item recommendations*, RecSys 2019, Eq. 5
(there Q is estimated, here it is known); the attributes that are learned by leaving the items' own vectors out, Volkovs
et al. (DropoutNet), NeurIPS 2017.

Notation used for shapes: b histories or users of a batch, B of all workers, m positives of each, n distinct items of a
batch or items asked for, I items, W of them with clicks, F inputs, d dimensions.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import nn
from torch.nn import functional

from coldray.evaluation.ranking import Scorer
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, ModelConfig, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.neural.base import INPUTS, Network, NeuralConfig, NeuralModel, NeuralTask
from coldray.models.neural.inputs import bag
from coldray.models.neural.item_attributes import ItemAttributes
from coldray.models.neural.validation import Validation
from coldray.models.state import Arrays
from coldray.models.transfer.networks import AttributeTower, dense_tower
from coldray.models.transfer.similarity import arrays_under
from coldray.training.histories import Histories
from coldray.training.negatives import InBatchNegatives
from coldray.training.options import FitOptions
from coldray.training.row_random import RowDropout, row_uniforms
from coldray.training.task import Batch, Loss, Step

_ID_SCALE = 0.05
"""Standard deviation of the first vectors of items."""
_LEAST_TEMPERATURE = 0.01
"""A learned temperature goes no lower: below it, rounding decides."""


class TwoTowerConfig(NeuralConfig):
    """Parameters of `TwoTower`; some of those of the training have other defaults."""

    optimizer: Literal["adam", "adamw"] = "adamw"
    learning_rate: PositiveFloat = 3e-3
    weight_decay: NonNegativeFloat = 1e-2
    clip_norm: PositiveFloat | None = 5.0
    batch_size: PositiveInt = 256
    """Users of a step over all workers together; all of them where there are fewer."""
    schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    epochs: PositiveInt = 16
    patience: PositiveInt | None = None
    embedding_dim: PositiveInt = 64
    """d, dimensions of the vectors of users and items."""
    hidden_dim: PositiveInt = 128
    """Units of the hidden layers."""
    n_layers: int = Field(default=1, ge=1, le=8)
    """Hidden layers of each tower."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of the hidden units left out in training."""
    id_dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of the positives whose own vector is left out in training, as that of a new item is missing. 0 learns
    nothing for those."""
    history_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the clicks left out of the histories in training."""
    positives: PositiveInt = 4
    """m, clicks of a user that a step learns to find, drawn from all of theirs; each is left out of its own history."""
    temperature: PositiveFloat = 0.1
    """τ, what cosines are divided by; where it is learned, what it begins with."""
    learn_temperature: bool = False
    """Learn the temperature with the weights."""
    correction: float = Field(default=1.0, ge=0, le=1)
    """How much of the logarithm of its sampling probability is taken off the logit of an item, which comes into the
    batch the more often the more it is clicked: 1 all of it (logQ), 0 nothing, so that popular items are held down."""
    stop_by: Literal["items", "clicks"] = "items"
    """What is held out to stop by: all clicks of some items, as if these were new, or single clicks. Without attributes
    it is clicks, as a new item could not be told from another."""


class TwoTowers(Network):
    """Vectors of users and items.

    Parameters
    ----------
    config
        Sizes and dropout.
    attributes
        Of all I items.
    warm
        Items with a vector of their own, int ``[W]``.
    """

    def __init__(self, config: TwoTowerConfig, attributes: ItemAttributes, warm: npt.NDArray[np.integer[Any]]) -> None:
        super().__init__()
        dim = config.embedding_dim
        self.attributes = attributes
        self.tower = (
            AttributeTower(attributes.n_inputs, config.hidden_dim, dim, config.dropout, config.n_layers)
            if attributes.n_inputs
            else None
        )
        self.own = _vectors(len(warm), dim)  # e
        self.clicked = _vectors(len(warm), dim)  # g
        self.user = dense_tower(dim, config.hidden_dim, dim, config.dropout, config.n_layers)
        self.id_dropout = RowDropout(config.id_dropout)
        self.log_temperature = nn.Parameter(
            torch.tensor([float(np.log(config.temperature))]), requires_grad=config.learn_temperature
        )
        places = torch.full((attributes.n_items,), len(warm))
        places[torch.from_numpy(np.asarray(warm, np.int64))] = torch.arange(len(warm))
        self.register_buffer("places", places, persistent=False)  # [I], row of each item's own vectors

    places: torch.Tensor

    @property
    def temperature(self) -> torch.Tensor:
        """τ ``[1]``."""
        return self.log_temperature.exp().clamp(min=_LEAST_TEMPERATURE)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return unit vectors of users, one for each positive, which is not in their history; of the positives; and τ.

        Parameters
        ----------
        batch
            What :meth:`~coldray.models.neural.two_tower.TwoTowerTask.batch` makes.

        Returns
        -------
        tuple
            Two of ``[b, m, d]``, and ``[1]``.
        """
        listed, positives = batch["listed"], batch["positives"]  # [n], [b, m]
        told = self.told(listed, batch)  # [n, d]
        clicked = told + self.clicked(self.places[listed])  # [n, d]
        summed = _sums(clicked, batch["history"], batch["history_offsets"])  # [b, d]
        known = batch["known"]
        without = known.to(clicked.dtype)[..., None] * clicked[positives]  # [b, m, d]
        # Of a history of the positive alone rounding would be left: any direction, and gradients beyond bounds.
        read = torch.diff(batch["history_offsets"], append=known.new_tensor([len(batch["history"])], dtype=torch.int64))
        others = torch.where((read[:, None] > known)[..., None], summed[:, None] - without, 0)
        kept = (self.id_dropout(torch.ones_like(without[..., 0])) > 0)[..., None]  # [b, m, 1]
        items = told[positives] + kept * self.own(self.places[listed])[positives]
        users = self.asked(others, read[:, None] - known.to(read.dtype), batch)
        return users, functional.normalize(items, dim=-1), self.temperature

    def asked(self, histories: torch.Tensor, counts: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return unit vectors of the users of a batch ``[b, m, d]``.

        Parameters
        ----------
        histories
            What their clicks add up to but for the positive that is to be found ``[b, m, d]``.
        counts
            How many clicks these are ``[b, m]``.
        """
        return self.users(histories)

    def told(self, items: torch.Tensor, rows: Batch) -> torch.Tensor:
        """Return what the attributes of items say ``[n, d]``; `rows` are those of their bags."""
        if self.tower is None:
            return self.own.weight.new_zeros(len(items), self.own.weight.shape[1])
        out: torch.Tensor = self.tower(rows, items)
        return out

    def users(self, histories: torch.Tensor) -> torch.Tensor:
        """Return unit vectors of users from what their clicks add up to ``[…, d]``."""
        directions = functional.normalize(histories, dim=-1)
        return functional.normalize(directions + self.user(directions * directions.shape[-1] ** 0.5), dim=-1)

    def all_items(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return unit vectors of all items, and what a click on each adds to a history, ``[I, d]`` both."""
        every = torch.arange(len(self.places), device=self.places.device)
        rows = {name: values.to(self.places.device) for name, values in bag(self.attributes.rows).items()}
        told = self.told(every, rows)
        vectors = functional.normalize(told + self.own(self.places), dim=-1)
        return vectors, told + self.clicked(self.places)

    def user_vectors(self, histories: sp.csr_array, clicked: torch.Tensor) -> torch.Tensor:
        """Return unit vectors of users ``[b, d]``, given what a click on each item adds ``[I, d]``."""
        return self.users(self.added_up(histories, clicked))

    def added_up(self, histories: sp.csr_array, clicked: torch.Tensor) -> torch.Tensor:
        """Return what histories add up to ``[b, d]``, given what a click on each item adds ``[I, d]``."""
        device = clicked.device
        items = torch.from_numpy(histories.indices.astype(np.int64)).to(device)
        starts = torch.from_numpy(histories.indptr[:-1].astype(np.int64)).to(device)
        return _sums(clicked, items, starts)

    def scorer(self, items: Items) -> Scorer:
        """Return the function from histories to cosines with `items`."""
        vectors, clicked = self.all_items()
        wanted = vectors[torch.from_numpy(np.array(items, np.int64)).to(vectors.device)].T  # [d, n]

        def scores(histories: sp.csr_array) -> Scores:
            found: Scores = (self.user_vectors(histories, clicked) @ wanted).float().cpu().numpy()
            return found

        return scores


def _vectors(n_rows: int, dim: int) -> nn.Embedding:
    """Return a vector for each row, and one of zeros after them for items that have none."""
    table = nn.Embedding(n_rows + 1, dim, padding_idx=n_rows)
    nn.init.normal_(table.weight[:-1], std=_ID_SCALE)
    return table


def _sums(rows: torch.Tensor, items: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    if len(starts) == 0:
        return rows.new_zeros(0, rows.shape[1]) + 0 * rows.sum()
    return functional.embedding_bag(items, rows, starts, mode="sum")


class TwoTowerTask(NeuralTask):
    """The training of two towers.

    Parameters
    ----------
    config
        Of the towers.
    train
        Clicks, and which items are warm.
    attributes
        Of all items.
    validation
        What is validated on; None trains for all epochs.
    """

    name = "TwoTower"

    def __init__(
        self,
        config: TwoTowerConfig,
        train: TrainingSet,
        attributes: ItemAttributes,
        validation: Validation | None,
    ) -> None:
        super().__init__(validation)
        clicks = train.interactions
        self.config, self.attributes, self.warm = config, attributes, train.warm_items
        self.histories, self.rows = Histories.of(clicks), Histories.of(attributes.rows)
        self.users = torch.from_numpy(np.flatnonzero(np.diff(clicks.indptr)))
        self.negatives = InBatchNegatives(clicks)
        self.log_shares = torch.from_numpy(_log_shares(clicks))

    def build(self) -> TwoTowers:
        """Return new towers."""
        return TwoTowers(self.config, self.attributes, self.warm)

    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return what users clicked, some of it to be found, and the attributes of all items in that.

        Items are told by their place among the distinct ones of the batch, ``listed``, but for ``items``, the positives
        ``[b, m]``. ``known`` says which of these are in the history that is read.
        """
        users = self.users[examples]
        starts, lengths = self.histories.starts[users], self.histories.starts.diff()[users]
        drawn = row_uniforms(generator, users[:, None], torch.arange(self.config.positives))
        items = self.histories.items[starts[:, None] + (drawn * lengths[:, None]).long()]  # [b, m]
        history = self.histories.bags(users, hidden=self.config.history_dropout, generator=generator, rows=users)
        clicked, offsets = history["history"], history["history_offsets"]
        listed, places = torch.unique(torch.cat([clicked, items.ravel()]), return_inverse=True)
        bags = self.rows.bags(listed)
        return {
            "users": users,
            "items": items,
            "listed": listed,
            "history": places[: len(clicked)],
            "history_offsets": offsets,
            "positives": places[len(clicked) :].view_as(items),
            "known": _present(items, clicked, offsets, self.histories.n_items),
            "indices": bags["history"],
            "offsets": bags["history_offsets"],
            "weights": bags["history_values"],
        }

    def loss(self, module: nn.Module, batch: Batch, step: Step) -> Loss:
        """Return the mean over the positives of each user."""
        users, own, temperature = module(batch)  # [b, m, d] twice
        vectors, _ = step.workers.gather(own)  # [B, m, d]
        items, _ = step.workers.gather(batch["items"])  # [B, m]
        rivals = vectors.flatten(0, 1)  # [Bm, d]
        shares = self.config.correction * self.log_shares.to(rivals.device)
        negatives = self.negatives.mask(batch["users"], items.ravel())  # [b, Bm]
        logits = users @ rivals.T / temperature - shares[items.ravel()]  # [b, m, Bm]
        positive = (users * own).sum(dim=-1) / temperature - shares[batch["items"]]  # [b, m]
        others = logits.masked_fill(~negatives[:, None], -torch.inf)
        every = torch.cat([positive[..., None], others], dim=-1)
        return Loss((every.logsumexp(dim=-1) - positive).mean(dim=1))


def _log_shares(clicks: sp.csr_array) -> np.ndarray:
    """Return log Q, float32 ``[I]``: how often an item is drawn if each user draws among their clicks; 0 if never."""
    lengths = np.diff(clicks.indptr)
    weights = np.repeat(1 / np.maximum(lengths, 1), lengths)
    drawn = np.bincount(clicks.indices, weights, minlength=clicks.shape[1]) / max((lengths > 0).sum(), 1)
    return np.log(np.where(drawn > 0, drawn, 1)).astype(np.float32)


def _present(items: torch.Tensor, clicked: torch.Tensor, offsets: torch.Tensor, n_items: int) -> torch.Tensor:
    """Return which items ``[b, m]`` are among the clicked ones of their row, bool."""
    ends = torch.cat([offsets[1:], offsets.new_tensor([len(clicked)])])[: len(offsets)]
    rows = torch.repeat_interleave(torch.arange(len(offsets)), ends - offsets)
    return torch.isin(torch.arange(len(offsets))[:, None] * n_items + items, rows * n_items + clicked)


TERMS, ENTRIES = 8, 48
"""Terms of all attributes for each item, and how many an item has, that the check of memory reckons with."""
_CLICKS = 256
"""Clicks of a user in a batch that it reckons with."""


def towers_bytes(config: TwoTowerConfig, n_users: int, n_items: int) -> int:
    """Return what weights with their moments, attributes of items, and the logits and towers of a step take."""
    dim, users = config.embedding_dim, min(config.batch_size, n_users)
    listed = min(n_items, users * (_CLICKS + config.positives))
    weights = 5 * (TERMS * n_items * config.hidden_dim + 2 * n_items * dim)
    attributes = 3 * 3 * ENTRIES * n_items
    logits = 34 * (users * config.positives) ** 2  # with what the gradient keeps
    units = config.n_layers * config.hidden_dim + dim
    towers = 6 * units * (listed + 2 * users * config.positives)
    return 4 * (weights + attributes + logits + towers)


class TwoTower(NeuralModel[TwoTowerConfig]):
    """Cosines of users and items."""

    name: ClassVar[str] = "two_tower"
    config_type: ClassVar[type[ModelConfig]] = TwoTowerConfig
    way_out: ClassVar[str] = (
        "Use a smaller hidden_dim, embedding_dim, batch_size or positives, or fewer items through the "
        "filters (min_item_interactions)."
    )
    scores_cold_items: ClassVar[bool] = True

    def __init__(self, config: TwoTowerConfig | None = None) -> None:
        super().__init__(config)
        self._vectors: tuple[torch.Tensor, torch.Tensor] | None = None

    def inputs(self, train: TrainingSet) -> Arrays:
        """Return the encoded attributes, and which items have vectors of their own."""
        return {**ItemAttributes.of(train).arrays(), "warm": train.warm_items}

    def network(self, inputs: Arrays, n_items: int) -> TwoTowers:
        """Return new towers."""
        return TwoTowers(self.config, ItemAttributes.from_arrays(inputs), inputs["warm"])

    def task(self, train: TrainingSet, inputs: Arrays, validation: Validation | None) -> TwoTowerTask:
        """Return the training on `train`."""
        return TwoTowerTask(self.config, train, ItemAttributes.from_arrays(inputs), validation)

    def stops_by_items(self, train: TrainingSet) -> bool:
        """Tell whether whole items are held out to stop by."""
        return self.config.stop_by == "items" and bool(train.features.features)

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Train the towers.

        Raises
        ------
        DataError
            If there is no click, a user has clicked all there is, or attributes tell no item from the others.
        CatalogTooLargeError
            If the training does not fit in memory.
        DivergedError
            If the loss is not finite any more.
        """
        self._vectors = None
        return super().fit(train, computations, options)

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what weights with their moments, attributes, and the logits and towers of a step take."""
        return towers_bytes(self.config, n_users, n_items)

    def item_vectors(self, items: Items) -> Scores:
        """Return the unit vectors of items, float32 ``[n, d]``: scores are their inner products with those of users."""
        return np.ascontiguousarray(self._all_items()[0][_places(items)].numpy())

    def scorer(self, items: Items) -> Scorer:
        """Return the function that scores `items` for histories, by the vectors that are made once."""
        network, (vectors, clicked) = self.fitted_network, self._all_items()
        wanted = vectors[_places(items)].T  # [d, n]

        def scores(histories: sp.csr_array) -> Scores:
            with torch.no_grad():
                found: Scores = (network.user_vectors(histories, clicked) @ wanted).numpy()
            return found

        return scores

    def user_vectors(self, histories: sp.csr_array) -> Scores:
        """Return the unit vectors of users with these clicks, float32 ``[b, d]``."""
        clicked = self._all_items()[1]
        with torch.no_grad():
            found: Scores = self.fitted_network.user_vectors(histories, clicked).numpy()
        return found

    def add_items(self, features: FeatureSet) -> Self:
        """Return a model with the items of `features` appended, whose vectors their attributes give."""
        self.check_fitted()
        inputs = arrays_under(INPUTS, self._state)
        longer = ItemAttributes.from_arrays(inputs).extended(features)
        return self.extended({**longer.arrays(), "warm": inputs["warm"]}, features.n_items)

    @property
    def fitted_network(self) -> TwoTowers:
        """The trained towers."""
        network = super().fitted_network
        if not isinstance(network, TwoTowers):  # pragma: no cover  network() makes no other
            raise TypeError("These are no two towers.")
        return network

    def _all_items(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the vectors of all items, and what their clicks add to a history; made when first asked for."""
        self.check_fitted()
        if self._vectors is None:
            with torch.no_grad():
                self._vectors = self.fitted_network.all_items()
        return self._vectors


def _places(items: Items) -> torch.Tensor:
    return torch.from_numpy(np.array(items, np.int64))
