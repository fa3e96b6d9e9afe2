"""Negative samples of user-item models: items a user has not clicked, to be scored below those clicked.

No kind ever gives a positive of the user. Items are drawn by inverting the cumulative weights of what the user has
*not* clicked: with integer weights w, cumulative weights C before an item, and the positives ``p_0 < p_1 < …`` of a
user, the weight free before ``p_j`` is ``g_j = C(p_j) − Σ_{i<j} w(p_i)``. A number t below the user's whole free weight
lies behind exactly the positives with ``g_j ≤ t``; their weight added to t is a place in C, and that place is the item.
The g of all users are one ascending array of keys ``user · (Σw + 1) + g``, so a batch takes two binary searches a draw.
Nothing is rejected and redrawn: the draws are exact, and as fast, for a user who has clicked all items but one.

Sources: uniform, Rendle et al. (BPR), UAI 2009; popularity with the power 0.75, Mikolov et al. (word2vec), NeurIPS
2013; in-batch, Hidasi et al. (GRU4Rec), ICLR 2016; the highest of a drawn pool, Zhang et al. (dynamic negative
sampling), SIGIR 2013; fewer hard ones at the start, Ying et al. (PinSage), KDD 2018.

Notation used for shapes: b examples and n items of a batch, U users, I items, A of them drawable, c clicks on those,
w items drawn for an example.
"""

from __future__ import annotations

from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeFloat, PositiveInt, model_validator

from coldray.core.errors import ConfigError, EmptyDatasetError, ModelError
from coldray.training.row_random import row_uniforms

Kind: TypeAlias = Literal["uniform", "popularity", "in_batch", "hard"]
Items: TypeAlias = npt.NDArray[np.integer[Any]]

_RESOLUTION = 1 << 48
"""Sum that the integer weights of all items are scaled to: a share of 1e-9 is then exact to 2e-6 of itself."""
_LARGEST_KEY = 1 << 62
"""Bound of U · Σw; the resolution gives way to it from 2¹⁴ users on (2⁴² for a million users)."""


class NegativesConfig(BaseModel):
    """Which items a model learns to score below the clicked ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind = "uniform"
    """``uniform`` over the items, ``popularity`` (clicks to a power), ``in_batch`` (the positives of the batch's other
    users), or ``hard`` (those the model scores highest in a drawn pool)."""
    count: PositiveInt = 1
    """Negatives of an example, drawn with replacement; ``in_batch`` takes all there are."""
    power: FiniteFloat = Field(default=0.75, ge=0)
    """Exponent of the clicks in ``popularity``: 0 draws all clicked items alike, 1 as often as they are clicked."""
    pool: PositiveInt = 32
    """Items drawn for an example, among which ``hard`` looks for the highest scores; at least `count`."""
    pool_kind: Literal["uniform", "popularity"] = "uniform"
    """How ``hard`` draws its pool, and its negatives that are not hard."""
    hard_share: float = Field(default=0.5, ge=0, le=1)
    """Share of hard negatives after the warm-up. Near 1 many are clicks still to come, which misleads the model."""
    warmup_epochs: NonNegativeFloat = 5.0
    """Epochs over which the share of hard negatives grows linearly from 0; with 0 it is `hard_share` at once."""

    @model_validator(mode="after")
    def _pool_suffices(self) -> Self:
        if self.kind == "hard" and self.pool < self.count:
            raise ValueError(
                f"pool is {self.pool}, but {self.count} negatives are kept of it; use a pool of {self.count} or more "
                "(several times as many, for them to be hard) or a smaller count."
            )
        return self

    def hard_share_at(self, progress: float) -> float:
        """Return the share of hard negatives after `progress` epochs, fractions included."""
        return self.hard_share * (1.0 if progress >= self.warmup_epochs else progress / self.warmup_epochs)


class DrawnNegatives:
    """Negatives drawn for each example: ``uniform``, ``popularity`` and ``hard``.

    A task draws :meth:`candidates` in its batch, scores them in its loss, and uses the columns :meth:`kept` names.

    Parameters
    ----------
    config
        Of any kind but ``in_batch``.
    interactions
        Clicks ``[U, I]``; every stored cell is a positive, a rating of 0 among them.
    items
        Items that may be drawn, integers, such as the warm ones; all by default. ``popularity`` draws clicked ones.

    Attributes
    ----------
    possible
        Whether a user has left an item to draw, bool ``[U]``. One without is no example of a training: nothing ranks
        below all they clicked.

    Raises
    ------
    EmptyDatasetError
        If no item may be drawn, or every user has clicked all of them.
    ConfigError
        If the kind is ``in_batch`` or `items` are not indices of items.
    """

    def __init__(self, config: NegativesConfig, interactions: sp.csr_array, *, items: Items | None = None) -> None:
        if config.kind == "in_batch":
            raise ConfigError('Negatives of kind "in_batch" are not drawn; use InBatchNegatives for them.')
        self.config = config
        clicks = _canonical(interactions)
        n_users, n_items = clicks.shape
        weights = _drawn_weights(config, clicks, _eligible(items, n_items))
        self.possible = torch.from_numpy(_have_negatives(clicks, weights > 0))
        candidates = np.flatnonzero(weights)
        ends = np.cumsum(weights[candidates])  # [A]
        total = int(ends[-1])
        users = np.repeat(np.arange(n_users, dtype=np.int64), np.diff(clicks.indptr))
        drawable = weights[clicks.indices] > 0
        users, positives = users[drawable], clicks.indices[drawable]  # [c]
        starts = np.searchsorted(users, np.arange(n_users + 1))
        passed = np.concatenate([[0], np.cumsum(weights[positives])])  # [c + 1], at most U · Σw
        before = (np.cumsum(weights) - weights)[positives]
        keys = users * (total + 1) + before - (passed[:-1] - passed[starts[users]])
        self._stride = total + 1
        self._candidates = torch.from_numpy(candidates)
        self._ends = torch.from_numpy(ends)
        self._keys = torch.from_numpy(keys)
        self._passed = torch.from_numpy(passed)
        self._before_user = torch.from_numpy(passed[starts[:-1]])  # [U]
        self._free = torch.from_numpy(total - np.diff(passed[starts]))  # [U]

    @property
    def width(self) -> int:
        """Columns of :meth:`candidates`: `count`, with `pool` more for ``hard``."""
        return self.config.count + (self.config.pool if self.config.kind == "hard" else 0)

    def candidates(
        self, users: torch.Tensor, generator: torch.Generator, *, rows: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw items that the users have not clicked, independently and with replacement: int64 ``[b, w]``.

        For ``hard``, the first `count` columns are the negatives where none is hard yet, the others the pool.

        Parameters
        ----------
        users
            Integers ``[b]`` on the CPU; a user may come several times.
        generator
            Source of the draws, on the CPU. The same state gives the same items.
        rows
            Integers ``[b]``, by which a row is told from all others of all workers: the same row is given the same
            items then, whatever others there are.

        Raises
        ------
        ModelError
            If a user is not among the U, or has clicked all items that may be drawn.
        """
        users = users.long()  # keys do not fit int32
        unknown = users[(users < 0) | (users >= len(self._free))]
        if len(unknown):
            raise ModelError(f"User {int(unknown[0])} was asked for; the clicks know users 0 to {len(self._free) - 1}.")
        free = self._free[users, None]  # [b, 1]
        if (free == 0).any():
            full = int(users[(free[:, 0] == 0).nonzero()[0, 0]])
            raise ModelError(f"User {full} has clicked all items that negatives are drawn from; see `possible`.")
        if rows is None:
            uniform = torch.rand(len(users), self.width, dtype=torch.float64, generator=generator)
        else:
            uniform = row_uniforms(generator, rows[:, None], torch.arange(self.width))
        places = (uniform * free).long()  # below `free`: the largest number drawn, 1 − 2⁻⁵³, does not round up to 1
        clicked = torch.searchsorted(self._keys, users[:, None] * self._stride + places, right=True)
        places += self._passed[clicked] - self._before_user[users, None]
        return self._candidates[torch.searchsorted(self._ends, places, right=True)]

    def kept(self, candidates: torch.Tensor, scores: torch.Tensor, progress: float, first: int = 0) -> torch.Tensor:
        """Return the columns of the negatives, int64 ``[b, count]``: ``scores.gather(1, kept)`` are their scores.

        ``hard`` fills the share :meth:`NegativesConfig.hard_share_at` of the places with the items of the pool that
        score highest, an item drawn twice counting once while others are left. Where the share of `count` is no whole
        number, some rows get one more than others, evenly spread, so that the batch as a whole keeps to the share.

        Parameters
        ----------
        candidates
            int64 ``[b, w]`` from :meth:`candidates`.
        scores
            Scores ``[b, w]`` of the current model, the higher the harder.
        progress
            Epochs done, fractions included.
        first
            Place of the first row in the batch of all workers, so that their number changes nothing.

        Raises
        ------
        ModelError
            If `scores` or `candidates` is not ``[b, w]``.
        """
        if candidates.shape != scores.shape or candidates.shape[1:] != (self.width,):
            given = f"{tuple(candidates.shape)} and {tuple(scores.shape)}"
            raise ModelError(f"Candidates and scores are {given}; both must be [b, {self.width}], as drawn.")
        count = self.config.count
        columns = torch.arange(count, device=scores.device).expand(len(scores), count)
        if self.config.kind != "hard":
            return columns
        wanted = self.config.hard_share_at(progress) * count
        places = torch.arange(first, first + len(scores), device=scores.device).double()
        n_hard = ((places + 1) * wanted).floor() - (places * wanted).floor()  # [b], wanted on average
        pool = scores.detach()[:, count:].masked_fill(_repeats(candidates[:, count:]), -torch.inf)
        # A stable sort, unlike topk, promises which of equal scores is taken.
        hardest = pool.argsort(dim=1, descending=True, stable=True)[:, :count] + count
        return torch.where(columns < n_hard[:, None], hardest, columns)


class InBatchNegatives:
    """The positives of a batch, as negatives for its other users: no item is scored that is not scored anyway.

    Items come as often as they are clicked, so popular ones are pushed down more than by the other kinds.

    Parameters
    ----------
    interactions
        Clicks ``[U, I]``; every stored cell is a positive, a rating of 0 among them.
    items
        Items that may be negatives, integers; all by default.

    Attributes
    ----------
    possible
        Whether there is any clicked item that a user has not clicked, bool ``[U]``.

    Raises
    ------
    EmptyDatasetError, ConfigError
        As :class:`DrawnNegatives`, of the clicked items among `items`.
    """

    def __init__(self, interactions: sp.csr_array, *, items: Items | None = None) -> None:
        clicks = _canonical(interactions)
        eligible = _eligible(items, clicks.shape[1])
        # Only a clicked item can be a positive of a batch.
        self.possible = torch.from_numpy(_have_negatives(clicks, eligible & (_clicks_of_items(clicks) > 0)))
        self._eligible = torch.from_numpy(eligible)
        self._starts = torch.from_numpy(clicks.indptr.astype(np.int64))
        self._positives = torch.from_numpy(clicks.indices.astype(np.int64))

    def mask(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Return which items of the batch are negatives of which user, bool ``[b, n]`` on the device of `users`.

        False where the item is a positive of the user or not among `items` of the constructor. A row may be False
        throughout: a small batch need not hold a negative for everyone.

        Parameters
        ----------
        users
            Integers ``[b]``: the users of the batch, or of one worker's part of it.
        items
            Integers ``[n]``: the positives of the whole batch. One that comes twice is a negative twice.
        """
        listed, columns = torch.unique(items.cpu().long(), return_inverse=True)
        mask = self._eligible[listed].repeat(len(users), 1)
        mask[self.positives(users.cpu(), listed)] = False
        return mask[:, columns].to(users.device)

    def positives(self, users: torch.Tensor, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return row and column of each positive among `users` and `items`, int64 ``[p]`` on the device of `users`.

        Parameters
        ----------
        users
            Integers ``[b]``.
        items
            Integers ``[n]``, none of them twice.
        """
        device, users, items = users.device, users.cpu().long(), items.cpu().long()
        column_of = torch.full((len(self._eligible),), -1).index_copy_(0, items, torch.arange(len(items)))
        # The clicks of b users are far fewer than the b · n cells, each of which would need a search of its own.
        lengths = self._starts[users + 1] - self._starts[users]
        rows = torch.arange(len(users)).repeat_interleave(lengths)
        offsets = (self._starts[users] - (lengths.cumsum(0) - lengths)).repeat_interleave(lengths)
        columns = column_of[self._positives[offsets + torch.arange(len(rows))]]
        found = columns >= 0
        return rows[found].to(device), columns[found].to(device)


def _eligible(items: Items | None, n_items: int) -> npt.NDArray[np.bool_]:
    """Return which of all items are among `items`, bool ``[I]``."""
    if items is None:
        return np.ones(n_items, np.bool_)
    if items.ndim != 1 or not np.issubdtype(items.dtype, np.integer):
        shape = f"The items of negatives are {items.dtype} of shape {items.shape}"
        raise ConfigError(f"{shape}; integer indices [A] are needed (np.flatnonzero gives those of a mask).")
    outside = items[(items < 0) | (items >= n_items)]
    if len(outside):
        raise ConfigError(f"Item {outside[0]} was given for negatives; the clicks know items 0 to {n_items - 1}.")
    eligible = np.zeros(n_items, np.bool_)
    eligible[items] = True
    return eligible


def _clicks_of_items(clicks: sp.csr_array) -> npt.NDArray[np.int64]:
    return np.bincount(clicks.indices, minlength=clicks.shape[1])


def _drawn_weights(
    config: NegativesConfig, clicks: sp.csr_array, eligible: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Return the weight of each item, int64 ``[I]``; 0 where it is never drawn."""
    kind = config.pool_kind if config.kind == "hard" else config.kind
    if kind == "uniform":
        return eligible.astype(np.int64)
    counts = np.where(eligible, _clicks_of_items(clicks), 0)
    weights = np.zeros(len(counts), np.int64)
    drawn = counts > 0
    if drawn.any():
        shares = (counts[drawn] / counts.max()) ** config.power  # of the largest first: no power overflows
        resolution = min(_RESOLUTION, _LARGEST_KEY // clicks.shape[0])
        weights[drawn] = np.maximum(np.rint(shares * (resolution / shares.sum())), 1)
    return weights


def _canonical(interactions: sp.csr_array) -> sp.csr_array:
    """Return `interactions` itself, or a copy whose rows are sorted and name no item twice."""
    if interactions.has_canonical_format:
        return interactions
    clicks = sp.csr_array(interactions, copy=True)
    clicks.sum_duplicates()
    return clicks


def _have_negatives(clicks: sp.csr_array, drawable: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which users have not clicked all that is drawable ``[U]``; some have, or nothing can be learnt."""
    n_drawable = int(drawable.sum())
    if n_drawable == 0:
        raise EmptyDatasetError("No item may be a negative. Give items; in_batch and popularity need clicked ones.")
    clicked = np.diff(np.concatenate([[0], np.cumsum(drawable[clicks.indices])])[clicks.indptr])
    possible: npt.NDArray[np.bool_] = clicked < n_drawable
    if not possible[np.diff(clicks.indptr) > 0].any():
        raise EmptyDatasetError(
            f"Every user has clicked all {n_drawable} items that negatives are drawn from: nothing tells what a user "
            "would not click. Draw from more items (uniform also draws unclicked ones), or give more clicks."
        )
    return possible


def _repeats(items: torch.Tensor) -> torch.Tensor:
    """Return where an item ``[b, w]`` stands in its row not for the first time, bool ``[b, w]``."""
    ordered, order = items.sort(dim=1, stable=True)
    return torch.zeros_like(items, dtype=torch.bool).scatter_(1, order[:, 1:], ordered[:, 1:] == ordered[:, :-1])


def summed_powers(logits: torch.Tensor, least: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``Σ exp(logits - m)`` and m, both ``[b]``, where m is the largest logit of a row and of `least`.

    The logarithm of the sum and m add up to what :func:`torch.logsumexp` returns. That keeps three arrays as large as
    the logits until its way back is done, and this one, which takes less than half the time of a step.

    Parameters
    ----------
    logits
        ``[b, n]``, a result that nothing else reads; it is overwritten. Minus infinity leaves an item out, and no
        gradient goes there.
    least
        ``[b]``, finite: another logit of each row, which is in the sum only if it is among the logits.
    """
    with torch.no_grad():  # what is taken off a row here is added again by the caller, so no gradient is lost
        highest = torch.maximum(logits.amax(dim=1), least)
        logits -= highest[:, None]
    return logits.exp_().sum(dim=1), highest
