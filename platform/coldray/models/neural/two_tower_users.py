"""TwoTowerUsers: two towers of which that of users reads who they are, beside what they clicked.

Items are those of :mod:`~coldray.models.neural.two_tower`. A user of n clicks, which add up to h, and of the attributes
z is::

    s = n/(n + κ) · unit(h) + p(z),    u = unit(s + t(√d s))

with a tower p over the attributes, scaled to unit length as those of items are, 0 where none is known, and a κ that is
learned: of who has just arrived all is said by z, and each click says more. In training the whole history of some users
is left out by chance (`newcomers`), so that p is learned by itself, and of some their attributes (`strangers`), so that
clicks are.

Source: as of two towers; leaving out what is not known at first, Volkovs et al. (DropoutNet), NeurIPS 2017, Sec. 3.3.

Notation used for shapes: U users, b users of a batch or block, m positives of each, n items asked for, F inputs,
d dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import nn
from torch.nn import functional

from coldray.evaluation.ranking import Scorer
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, ModelConfig, ProfileScorer, Scores, TrainingSet
from coldray.models.neural.base import INPUTS, NeuralModel
from coldray.models.neural.inputs import AttributeInputs, bag
from coldray.models.neural.item_attributes import ItemAttributes
from coldray.models.neural.two_tower import TwoTowerConfig, TwoTowers, TwoTowerTask, towers_bytes
from coldray.models.neural.validation import METRIC, Validation, hold_out_users
from coldray.models.state import Arrays
from coldray.models.transfer.networks import AttributeTower
from coldray.models.transfer.similarity import arrays_under
from coldray.training.histories import Histories
from coldray.training.row_random import RowDropout
from coldray.training.task import Batch, PerUser

_ENCODER, _WIDTH, _PEOPLE = "people.", "people_width", "people_"
"""What the names of arrays begin with: the encoding of users, its width; and of a batch, their attributes."""
_Scorer: TypeAlias = Callable[[sp.csr_array, sp.csr_array], Scores]
"""From histories ``[b, I]`` and encoded attributes of users ``[b, F]`` to scores ``[b, n]``."""


class TwoTowerUsersConfig(TwoTowerConfig):
    """Parameters of :class:`TwoTowerUsers`: those of two towers, some by other defaults, and of what is read of users.

    Who has just arrived is given what many click, which takes more steps to learn than what few do.
    """

    weight_decay: NonNegativeFloat = 0.1
    batch_size: PositiveInt = 128
    """Users of a step over all workers together; all of them where there are fewer."""
    epochs: PositiveInt = 40
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of the hidden units left out in training."""
    id_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the positives whose own vector is left out in training; raise it where new items are to be placed."""
    positives: PositiveInt = 16
    """m, clicks of a user that a step learns to find, drawn from all of theirs; each is left out of its own history."""
    newcomers: float = Field(default=0.5, ge=0, lt=1)
    """Share of the users of a step whose whole history is left out, as that of who has just arrived is missing."""
    strangers: float = Field(default=0.2, ge=0, lt=1)
    """Share of the users of a step whose attributes are left out, as those of who says nothing of themselves are."""
    prior_clicks: PositiveFloat = 5.0
    """κ at first, clicks that say as much of a user as a unit of their attributes; it is learned."""
    stop_by_newcomers: bool = True
    """Stop by the lists of users of whom all clicks are held out; else as `stop_by` says."""


class _UserTowers(TwoTowers):
    """Vectors of users by attributes and clicks, and of items.

    Parameters
    ----------
    n_inputs
        F, of users.
    """

    def __init__(
        self, config: TwoTowerUsersConfig, attributes: ItemAttributes, warm: npt.NDArray[Any], n_inputs: int
    ) -> None:
        super().__init__(config, attributes, warm)
        sizes = config.hidden_dim, config.embedding_dim, config.dropout, config.n_layers
        self.people = AttributeTower(n_inputs, *sizes)
        self.log_prior = nn.Parameter(torch.tensor([float(np.log(config.prior_clicks))]))
        self.newcomers, self.strangers = RowDropout(config.newcomers), RowDropout(config.strangers)

    def asked(self, histories: torch.Tensor, counts: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return unit vectors of the users of a batch ``[b, m, d]``, of some of them by their attributes alone."""
        told = self.told_of({name: batch[_PEOPLE + name] for name in ("indices", "offsets", "weights")})
        everybody = torch.ones_like(told[:, :1])  # [b, 1]
        known, kept = self.strangers(everybody) > 0, self.newcomers(everybody) > 0
        return self.knowing(histories, kept * counts, (known * told)[:, None])

    def told_of(self, people: Batch) -> torch.Tensor:
        """Return what encoded attributes of users say ``[b, d]``: nothing, 0, where none is known."""
        read = torch.diff(people["offsets"], append=people["offsets"].new_tensor([len(people["indices"])]))
        told: torch.Tensor = self.people(people) * (read > 0)[:, None]
        return told

    def knowing(self, histories: torch.Tensor, counts: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        """Return unit vectors of users ``[…, d]``.

        Parameters
        ----------
        histories
            What their clicks add up to ``[…, d]``.
        counts
            How many clicks these are ``[…]``.
        told
            What their attributes say ``[…, d]``.
        """
        share = counts / (counts + self.log_prior.exp())
        said = share[..., None] * functional.normalize(histories, dim=-1) + told
        return functional.normalize(said + self.user(said * said.shape[-1] ** 0.5), dim=-1)

    def scores(self, items: torch.Tensor, clicked: torch.Tensor) -> _Scorer:
        """Return the function from histories and encoded attributes of users to cosines.

        Parameters
        ----------
        items
            Unit vectors of those that are asked for ``[n, d]``.
        clicked
            What a click on each item adds to a history ``[I, d]``.
        """

        def scores(histories: sp.csr_array, people: sp.csr_array) -> Scores:
            with torch.no_grad():
                told = self.told_of({name: values.to(items.device) for name, values in bag(people).items()})
                counts = torch.from_numpy(np.diff(histories.indptr)).to(items.device, told.dtype)
                users = self.knowing(self.added_up(histories, clicked), counts, told)
                found: Scores = (users @ items.T).float().cpu().numpy()
            return np.ascontiguousarray(found, np.float32)

        return scores


class _UserTowerTask(TwoTowerTask):
    """The training of two towers that read who users are.

    Parameters
    ----------
    people
        Encoded attributes of all users ``[U, F]``.
    """

    name = "TwoTowerUsers"
    config: TwoTowerUsersConfig

    def __init__(
        self,
        config: TwoTowerUsersConfig,
        train: TrainingSet,
        attributes: ItemAttributes,
        people: sp.csr_array,
        validation: Validation | None,
    ) -> None:
        super().__init__(config, train, attributes, validation)
        self.people, self.people_rows = people, Histories.of(people)

    def build(self) -> _UserTowers:
        """Return new towers."""
        return _UserTowers(self.config, self.attributes, self.warm, self.people.shape[1])

    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return the batch of two towers, and the attributes of its users."""
        batch = super().batch(examples, generator)
        bags = self.people_rows.bags(batch["users"])
        people = {"indices": bags["history"], "offsets": bags["history_offsets"], "weights": bags["history_values"]}
        return {**batch, **{_PEOPLE + name: values for name, values in people.items()}}

    def validate(self, module: nn.Module, users: slice) -> dict[str, PerUser]:
        """Return the ndcg of users."""
        if self.validation is None or not isinstance(module, _UserTowers):
            raise TypeError("There is nothing to validate on.")
        with torch.no_grad():
            vectors, clicked = module.all_items()
        wanted = vectors[torch.from_numpy(np.array(self.validation.candidates, np.int64)).to(vectors.device)]
        return {METRIC: self.validation.ndcg(module.scores(wanted, clicked), users, self.people)}


class TwoTowerUsers(NeuralModel[TwoTowerUsersConfig]):
    """Cosines of users, by who they are and what they clicked, and items."""

    name: ClassVar[str] = "two_tower_users"
    config_type: ClassVar[type[ModelConfig]] = TwoTowerUsersConfig
    way_out: ClassVar[str] = (
        "Use a smaller hidden_dim, embedding_dim, batch_size or positives, or fewer items through the "
        "filters (min_item_interactions)."
    )
    scores_cold_items: ClassVar[bool] = True
    reads_users: ClassVar[bool] = True

    def inputs(self, train: TrainingSet) -> Arrays:
        """Return the encoded attributes of items, which of them have vectors of their own, and how users are encoded.

        Raises
        ------
        MissingFieldError
            If nothing is known of users but their clicks.
        DataError
            If attributes tell no item, or no user, from the others.
        """
        encoder = AttributeInputs.of(train.of_users)
        return {
            **ItemAttributes.of(train).arrays(),
            "warm": train.warm_items,
            _WIDTH: np.array([encoder.encode(train.of_users.features).shape[1]]),
            **{_ENCODER + name: values for name, values in encoder.parameters.items()},
        }

    def network(self, inputs: Arrays, n_items: int) -> _UserTowers:
        """Return new towers."""
        return _UserTowers(self.config, ItemAttributes.from_arrays(inputs), inputs["warm"], int(inputs[_WIDTH][0]))

    def task(self, train: TrainingSet, inputs: Arrays, validation: Validation | None) -> _UserTowerTask:
        """Return the training on `train`."""
        people = _encoder(inputs).encode(train.of_users.features)
        return _UserTowerTask(self.config, train, ItemAttributes.from_arrays(inputs), people, validation)

    def stops_by_items(self, train: TrainingSet) -> bool:
        """Tell whether whole items are held out to stop by, where it is not users."""
        return self.config.stop_by == "items" and bool(train.features.features)

    def hold_out(self, train: TrainingSet) -> tuple[TrainingSet, Validation | None]:
        """Return what is trained on at first, and what training is stopped by."""
        config = self.config
        if not config.stop_by_newcomers or config.validation_share == 0:
            return super().hold_out(train)
        generator = np.random.default_rng(config.seed)
        return hold_out_users(train, config.validation_share, config.validation_users, generator)

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what two towers take, and the tower of users once more."""
        config = self.config
        units = config.n_layers * config.hidden_dim + config.embedding_dim
        return towers_bytes(config, n_users, n_items) + 24 * units * min(config.batch_size, n_users)

    def scorer(self, items: Items) -> Scorer:
        """Return the function that scores `items` for users of whom nothing is known but their clicks."""
        scores = self._scores(items)
        width = int(self._state[INPUTS + _WIDTH][0])

        def of_clicks(histories: sp.csr_array) -> Scores:
            return scores(histories, sp.csr_array((histories.shape[0], width), dtype=np.float32))

        return of_clicks

    def profile_scorer(self, items: Items) -> ProfileScorer:
        """Return the function that scores `items` for users by their clicks and their features."""
        scores, encoder = self._scores(items), _encoder(arrays_under(INPUTS, self._state))

        def of_both(histories: sp.csr_array, profiles: FeatureSet) -> Scores:
            return scores(histories, encoder.encode(profiles))

        return of_both

    def add_items(self, features: FeatureSet) -> Self:
        """Return a model with the items of `features` appended, whose vectors their attributes give."""
        self.check_fitted()
        inputs = arrays_under(INPUTS, self._state)
        return self.extended(
            {**inputs, **ItemAttributes.from_arrays(inputs).extended(features).arrays()}, features.n_items
        )

    def _scores(self, items: Items) -> _Scorer:
        network = self.fitted_network
        if not isinstance(network, _UserTowers):  # pragma: no cover  network() makes no other
            raise TypeError("These are no towers that read who users are.")
        with torch.no_grad():
            vectors, clicked = network.all_items()
        return network.scores(vectors[torch.from_numpy(np.array(items, np.int64))], clicked)


def _encoder(inputs: Arrays) -> AttributeInputs:
    return AttributeInputs(arrays_under(_ENCODER, inputs))
