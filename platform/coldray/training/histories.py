"""Histories of users as batches: what the users of some training examples have clicked.

Notation used for shapes: U users, I items, b users of a batch, L the longest history of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from coldray.core.errors import ModelError
from coldray.data.signals import places_in
from coldray.training.row_random import row_uniforms
from coldray.training.task import Batch


@dataclass(frozen=True, eq=False)
class Histories:
    """What users have clicked, ready to be looked up in batches."""

    starts: torch.Tensor
    """Where the clicks of each user begin, int64 ``[U + 1]``."""
    items: torch.Tensor
    """Item of each click, int64."""
    values: torch.Tensor
    """What the matrix holds for it, float32, or complex64: see :mod:`~coldray.data.signals`."""
    n_items: int
    """I; as an item it stands for padding."""

    @classmethod
    def of(cls, interactions: sp.csr_array) -> Histories:
        """Take the clicks of a CSR ``[U, I]``, in the order in which it stores them."""
        return cls(
            torch.from_numpy(interactions.indptr.astype(np.int64)),
            torch.from_numpy(interactions.indices.astype(np.int64)),
            torch.from_numpy(
                np.asarray(interactions.data, np.complex64 if np.iscomplexobj(interactions.data) else np.float32)
            ),
            int(interactions.shape[1]),
        )

    @classmethod
    def in_order(cls, interactions: sp.csr_array) -> Histories:
        """Take the clicks of a CSR ``[U, I]``, those of each user by ascending value: places in the order of clicks.

        Clicks of the same place are in the order of the items.
        """
        rows = np.repeat(np.arange(interactions.shape[0]), np.diff(interactions.indptr))
        order = np.lexsort((interactions.indices, places_in(interactions.data), rows))
        parts = interactions.data[order], interactions.indices[order], interactions.indptr
        return cls.of(sp.csr_array(parts, shape=interactions.shape))

    def __len__(self) -> int:
        """Return U."""
        return len(self.starts) - 1

    @property
    def users(self) -> torch.Tensor:
        """User of each click, int64, beside :attr:`items`: the positives of a training."""
        return torch.repeat_interleave(torch.arange(len(self)), self.starts.diff())

    def padded(
        self,
        users: torch.Tensor,
        *,
        without: torch.Tensor | None = None,
        hidden: float = 0.0,
        longest: int | None = None,
        generator: torch.Generator | None = None,
        rows: torch.Tensor | None = None,
    ) -> Batch:
        """Return the histories of users as rows of equal length.

        Parameters
        ----------
        users
            Integers ``[b]``.
        without
            An item a user ``[b]`` that is left out of the history, such as the one to be predicted.
        hidden
            Share of the clicks that are left out, each by chance.
        longest
            So many clicks at most; of more, so many are drawn, or the last ones taken where no generator is given.
        generator
            Source of the draws.
        rows
            Integers ``[b]`` by which a row is told from all others of all workers: the same row is given the same
            draws, whatever others there are. Its place in this batch unless given.

        Returns
        -------
        Batch
            ``history`` int64 ``[b, L]``, I where there is no click any more; ``history_mask`` bool ``[b, L]``, True
            where there is one; ``history_values`` ``[b, L]``, 0 at the padding. L is 1 at least, so a history
            without a click is a row of padding.

        Raises
        ------
        ModelError
            If clicks are to be hidden without a generator.
        """
        told = torch.arange(len(users)) if rows is None else rows
        rows, places = self._clicks_of(users, without, hidden, generator, told)
        if longest is not None:
            kept = _at_most(rows, len(users), longest, generator, told)
            rows, places = rows[kept], places[kept]
        columns = _place_in_row(rows, len(users))
        width = int(columns.max()) + 1 if len(columns) else 1
        history = torch.full((len(users), width), self.n_items)
        values = torch.zeros(len(users), width, dtype=self.values.dtype)
        history[rows, columns] = self.items[places]
        values[rows, columns] = self.values[places]
        return {"history": history, "history_mask": history != self.n_items, "history_values": values}

    def bags(
        self,
        users: torch.Tensor,
        *,
        without: torch.Tensor | None = None,
        hidden: float = 0.0,
        generator: torch.Generator | None = None,
        rows: torch.Tensor | None = None,
    ) -> Batch:
        """Return the histories of users one after the other, as :class:`torch.nn.EmbeddingBag` reads them.

        The parameters are those of :meth:`padded`.

        Returns
        -------
        Batch
            ``history`` int64, the items of all; ``history_offsets`` int64 ``[b]``, where each begins; and
            ``history_values``, beside the items.
        """
        rows, places = self._clicks_of(
            users, without, hidden, generator, torch.arange(len(users)) if rows is None else rows
        )
        return self._bags(rows, places, len(users))

    def parted(
        self,
        users: torch.Tensor,
        targets: torch.Tensor,
        *,
        hidden: float = 0.0,
        generator: torch.Generator,
        rows: torch.Tensor | None = None,
    ) -> Batch:
        """Part the clicks of users by chance: some are to be predicted, some hidden, the rest are the histories.

        Parameters
        ----------
        users
            Integers ``[b]``.
        targets
            How many clicks of each are to be predicted, int64 ``[b]``; t is the most. All, if they have no more.
        hidden
            Share of the clicks that are left out of the histories, each by chance, besides those to be predicted.
        generator, rows
            As of :meth:`padded`.

        Returns
        -------
        Batch
            What :meth:`bags` returns of the histories; ``targets`` int64 ``[b, t]``, 0 where there are fewer, and
            ``is_target`` bool ``[b, t]``, False there.
        """
        told = torch.arange(len(users)) if rows is None else rows
        of, places = self._clicks_of(users, None, 0.0, None, told)
        rank = _random_rank(of, len(users), generator, told)
        chosen = rank < targets[of]
        width = int(targets.max()) if len(users) else 1
        items = torch.zeros(len(users), width, dtype=torch.int64)
        is_target = torch.zeros(len(users), width, dtype=torch.bool)
        items[of[chosen], rank[chosen]] = self.items[places[chosen]]
        is_target[of[chosen], rank[chosen]] = True
        # Drawn on top of the rank, which leaves what is hidden independent of what is predicted.
        kept = ~chosen & (row_uniforms(generator, told[of], _place_in_row(of, len(users))) >= hidden)
        return {**self._bags(of[kept], places[kept], len(users)), "targets": items, "is_target": is_target}

    def _bags(self, rows: torch.Tensor, places: torch.Tensor, n_rows: int) -> Batch:
        counts = torch.bincount(rows, minlength=n_rows)
        return {
            "history": self.items[places],
            "history_offsets": counts.cumsum(0) - counts,
            "history_values": self.values[places],
        }

    def _clicks_of(
        self,
        users: torch.Tensor,
        without: torch.Tensor | None,
        hidden: float,
        generator: torch.Generator | None,
        told: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return row and place of each click that is to be in a batch, row by row."""
        lengths = self.starts[users + 1] - self.starts[users]
        rows = torch.repeat_interleave(torch.arange(len(users)), lengths)
        places = torch.arange(len(rows)) + (self.starts[users] - (lengths.cumsum(0) - lengths))[rows]
        kept = torch.ones(len(rows), dtype=torch.bool)
        if without is not None:
            kept &= self.items[places] != without[rows]
        if hidden:
            if generator is None:
                raise ModelError(f"{hidden:g} of the clicks are to be hidden by chance, which takes a generator.")
            kept &= row_uniforms(generator, told[rows], _place_in_row(rows, len(users))) >= hidden
        return rows[kept], places[kept]


def _place_in_row(rows: torch.Tensor, n_rows: int) -> torch.Tensor:
    counts = torch.bincount(rows, minlength=n_rows)
    return torch.arange(len(rows)) - (counts.cumsum(0) - counts)[rows]


def _random_rank(rows: torch.Tensor, n_rows: int, generator: torch.Generator, told: torch.Tensor) -> torch.Tensor:
    """Return the place of each entry in a random order of those of its row, int64."""
    places = _place_in_row(rows, n_rows)
    order = (rows + row_uniforms(generator, told[rows], places)).argsort()  # drawn numbers are below 1
    rank = torch.empty_like(order)
    rank[order] = places
    return rank


def _at_most(
    rows: torch.Tensor, n_rows: int, longest: int, generator: torch.Generator | None, told: torch.Tensor
) -> torch.Tensor:
    """Return which entries stay, bool, if each row may keep so many."""
    if generator is None:
        return _place_in_row(rows, n_rows) >= (torch.bincount(rows, minlength=n_rows) - longest)[rows]
    return _random_rank(rows, n_rows, generator, told) < longest
