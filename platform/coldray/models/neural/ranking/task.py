"""The training of a ranker: each click is predicted from what its user had clicked before it.

Notation used for shapes: b examples of a batch, w one click and the items drawn for it, n distinct items of a batch,
c clicks, m moments, U users, I items, F inputs of a field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import nn
from torch.nn import functional

from coldray.data.dataset import rows_of, without_pairs
from coldray.data.moments import Moments, first_rows
from coldray.features.feature_set import FeatureSet
from coldray.features.known_clicks import KnownClicks
from coldray.features.moments import TIME, time_of
from coldray.models.base import TrainingSet
from coldray.models.neural.base import NeuralTask
from coldray.models.neural.inputs import bag
from coldray.models.neural.item_attributes import ItemAttributes
from coldray.models.neural.ranking.askers import AskerEncoder, Asking
from coldray.models.neural.ranking.config import FMConfig
from coldray.models.neural.ranking.network import AT, BAG, ITEM, MOMENT, USER, RankingNetwork
from coldray.models.neural.validation import METRIC, Validation
from coldray.training.histories import Histories
from coldray.training.negatives import DrawnNegatives, NegativesConfig
from coldray.training.task import Batch, Loss, PerUser, Step


@dataclass(frozen=True, eq=False)
class Clicks:
    """All clicks of a training set, those of each user by time, and which of them are before each ``[c]``.

    Of a click at a known time these are the ones at an earlier time, the last of them. What is before a click at an
    unknown time nobody knows: it is all others of its user, as many of them drawn.
    """

    users: npt.NDArray[np.intp]
    items: npt.NDArray[np.intp]
    moments: npt.NDArray[np.intp]
    """Row of the moment of each among those of the training set; 0 where there are none."""
    starts: npt.NDArray[np.intp]
    """Where the clicks of its user begin."""
    lengths: npt.NDArray[np.intp]
    """How many these are."""
    ends: npt.NDArray[np.intp]
    """Where among these those end that are read, which wrap around from the first to the last."""
    counts: npt.NDArray[np.intp]
    """How many are read."""
    times: npt.NDArray[np.float64]
    """Seconds since 1970, NaN where unknown."""
    n_items: int

    @classmethod
    def of(cls, train: TrainingSet, most: int, seed: int) -> Self:
        """Read the clicks of a training set; `most` is how many are before one at most, and `seed` of what is drawn."""
        clicks = train.interactions
        rows = _moments_of(train, clicks)
        times = np.full(clicks.nnz, np.nan) if train.moments is None else train.moments.times[rows]
        users = rows_of(clicks)
        order = np.lexsort((np.random.default_rng(seed).random(clicks.nnz), times, users))  # NaN sorts last
        users, times = users[order], times[order]
        starts = clicks.indptr[users].astype(np.intp)
        lengths = np.diff(clicks.indptr)[users].astype(np.intp)
        place = np.arange(clicks.nnz)
        new = np.ones(clicks.nnz, np.bool_)  # whether it is later than the click before it
        new[1:] = (users[1:] != users[:-1]) | (times[1:] != times[:-1])
        first = np.maximum.accumulate(np.where(new, place, 0))
        known = np.isfinite(times)
        ends = np.where(known, first, place) - starts
        counts = np.minimum(np.where(known, ends, lengths - 1), most)
        items = clicks.indices[order].astype(np.intp)
        return cls(users, items, rows[order], starts, lengths, ends, counts, times, clicks.shape[1])

    def earlier(self, places: npt.NDArray[np.integer[Any]]) -> sp.csr_array:
        """Return all that was clicked before some clicks, in order: see :meth:`KnownClicks.items_before` ``[b, I]``.

        Nothing is known of what was before one whose time is unknown.
        """
        counts = np.where(np.isfinite(self.times[places]), self.ends[places], 0)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        order = np.arange(indptr[-1]) - np.repeat(indptr[:-1], counts)
        items = self.items[np.repeat(self.starts[places], counts) + order]
        return sp.csr_array((order + 1.0, items, indptr), shape=(len(places), self.n_items))

    def take(self, chosen: npt.NDArray[np.bool_]) -> tuple[torch.Tensor, ...]:
        """Return users, places of the click and of its user, lengths, ends and counts of some clicks."""
        places = np.flatnonzero(chosen)
        arrays = (
            self.users[places],
            places,
            self.starts[places],
            *(part[places] for part in (self.lengths, self.ends, self.counts)),
        )
        return tuple(torch.from_numpy(one.astype(np.int64)) for one in arrays)


def _moments_of(train: TrainingSet, clicks: sp.csr_array) -> npt.NDArray[np.intp]:
    """Return the row of the moment of each click; 0 where none is known of."""
    return np.zeros(clicks.nnz, np.intp) if train.moments is None else clicks.data.astype(np.intp) - 1


def asking_rows(train: TrainingSet, rest: TrainingSet) -> npt.NDArray[np.intp]:
    """Return the row of the moment of the first click of each user that is not in `rest` any more ``[U]``, or -1."""
    if train.moments is None:
        return np.full(train.interactions.shape[0], -1)
    return first_rows(without_pairs(train.interactions, rest.interactions), train.moments.times)


class RankingTask(NeuralTask):
    """The training of a :class:`RankingNetwork`. An example is a click.

    Parameters
    ----------
    config
        Of the model.
    train
        What is trained on.
    attributes
        Of all items.
    encoder
        How who asks is encoded. Moments of clicks are so batch by batch, as all of them at once would be large.
    validation
        What is validated on; None trains for all epochs.
    asking
        Rows of the moments at which users ask for the validation's lists ``[U]``, -1 where nothing is known of it.
    """

    def __init__(
        self,
        config: FMConfig,
        train: TrainingSet,
        attributes: ItemAttributes,
        encoder: AskerEncoder,
        validation: Validation | None,
        asking: npt.NDArray[np.intp] | None,
    ) -> None:
        super().__init__(validation)
        self.name = type(config).__name__.removesuffix("Config")
        self.config, self.attributes, self.warm = config, attributes, train.warm_items
        self.encoder = encoder
        self.people = encoder.users.encode(train.users or FeatureSet({}, train.interactions.shape[0]))
        self.user_rows = Histories.of(self.people)
        self.features = FeatureSet({}, 1) if train.moments is None else train.moments.features
        self.item_rows = Histories.of(attributes.rows)
        self.negatives = DrawnNegatives(NegativesConfig(count=config.negatives), train.interactions)
        self.clicks = clicks = Clicks.of(train, config.history, config.seed)
        self.asking = None if asking is None else self._asked(asking)
        self.items, self.rows = torch.from_numpy(clicks.items).long(), torch.from_numpy(clicks.moments).long()
        taken = clicks.take(self.negatives.possible.numpy()[clicks.users])
        self.users, self.places, self.starts, self.lengths, self.ends, self.counts = taken

    def build(self) -> RankingNetwork:
        """Return a new network."""
        return RankingNetwork(self.config, self.attributes, self.warm, self.encoder)

    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return what was known before clicks, these, and items drawn for each.

        Returns
        -------
        Batch
            ``history`` and ``history_offsets``, the clicks before; ``listed`` ``[n]``, the distinct items of the batch,
            and ``chosen`` ``[b, w]``, places among them of each click and of what is drawn for it; the bags of
            attributes of users and of the listed items, and of moments; and what the chosen items have at them.
        """
        users, places, counts = self.users[examples], self.places[examples], self.counts[examples]
        offsets = counts.cumsum(0) - counts
        of = torch.repeat_interleave(torch.arange(len(examples)), counts)
        back = torch.arange(len(of)) - offsets[of]
        starts, lengths, ends = (part[examples][of] for part in (self.starts, self.lengths, self.ends))
        drawn = self.negatives.candidates(users, generator, rows=examples)
        items = torch.cat([self.items[places][:, None], drawn], dim=1)  # [b, w]
        listed, chosen = torch.unique(items, return_inverse=True)
        at = {}
        if self.encoder.of_items is not None:
            rows = places.numpy()
            encoded = self.encoder.of_items.encode(items.numpy(), self.clicks.times[rows], self.clicks.earlier(rows))
            at = {AT: torch.from_numpy(encoded)}  # [b, w, F]
        return {
            **at,
            "history": self.items[starts + (ends - 1 - back) % lengths],
            "history_offsets": offsets,
            "listed": listed,
            "chosen": chosen,
            **_bags(self.item_rows, listed, ITEM),
            **_bags(self.user_rows, users, USER),
            **_under(MOMENT, bag(self.encoder.moments.encode(self.features.take(self.rows[places].numpy())))),
        }

    def loss(self, module: nn.Module, batch: Batch, step: Step) -> Loss:
        """Return the cross-entropy of clicks and drawn items, or of each click being above those drawn for it."""
        scores = module(batch).float()  # [b, w]
        if self.config.loss == "pairwise":
            return Loss(functional.softplus(scores[:, 1:] - scores[:, :1]).mean(dim=1))
        signs = scores.new_ones(scores.shape[1])
        signs[1:] = -1
        return Loss(functional.softplus(-scores * signs).mean(dim=1))

    def validate(self, module: nn.Module, users: slice) -> dict[str, PerUser]:
        """Return the ndcg of users, who ask at the moments of what is held out."""
        if self.validation is None or self.asking is None or not isinstance(module, RankingNetwork):
            raise TypeError("There is nothing to validate on.")
        with torch.no_grad():
            scorer = module.asker_scorer(self.validation.candidates)
        ends = np.cumsum([self.people.shape[1], self.encoder.moments.n_inputs, self.clicks.n_items])

        def scores(histories: sp.csr_array, known: sp.csr_array) -> npt.NDArray[np.float32]:
            people, moments, earlier = (
                sp.csr_array(known[:, start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)
            )
            with torch.no_grad():
                return scorer(histories, Asking(people, moments, known[:, [-1]].toarray()[:, 0], earlier))

        return {METRIC: self.validation.ndcg(scores, users, self.asking)}

    def _asked(self, rows: npt.NDArray[np.intp]) -> sp.csr_array:
        """Return who asks at the moments of these rows: attributes, features, clicks before and times ``[U, F]``."""
        times = np.full(len(rows), np.nan)
        if TIME in self.features.features:
            times[rows >= 0] = time_of(self.features)[rows[rows >= 0]]
        asked = self.encoder.moments.encode_some(self.features, rows)
        clicks = self.clicks
        known = KnownClicks(clicks.users, clicks.items, clicks.times, np.full(len(clicks.users), np.nan))
        earlier = known.items_before(Moments(np.arange(len(rows)), times, {}), clicks.n_items)
        return sp.csr_array(sp.hstack([self.people, asked, earlier, sp.csr_array(times[:, None])], format="csr"))


def _bags(rows: Histories, chosen: torch.Tensor, field: str) -> dict[str, torch.Tensor]:
    bags = rows.bags(chosen)
    parts = bags["history"], bags["history_offsets"], bags["history_values"]
    return _under(field, dict(zip(BAG, parts, strict=True)))


def _under(field: str, parts: Batch) -> dict[str, torch.Tensor]:
    return {field + name: values for name, values in parts.items()}
