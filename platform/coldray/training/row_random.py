"""Random draws for the rows of a batch that do not depend on how many workers share it.

Each worker draws for the whole batch, from the same seed, and takes its own rows: dropout then leaves out the same
units of an example whoever computes it, and any number of workers trains the same model. Outside a training step, draws
come from torch's global generator, as those of any module.

Notation used for shapes: b rows of this worker, B rows of the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


@dataclass
class BatchRows:
    """Which rows of the whole batch this worker has, and the seed of what is drawn for them."""

    first: int
    total: int
    seed: int
    draws: int = 0
    """Draws so far: each has a stream of its own."""


_rows: ContextVar[BatchRows | None] = ContextVar("rows", default=None)


@contextmanager
def batch_rows(first: int, total: int, seed: int) -> Iterator[None]:
    """Say which rows of a batch a module is about to see."""
    token = _rows.set(BatchRows(first, total, seed))
    try:
        yield
    finally:
        _rows.reset(token)


class RowDropout(nn.Module):
    """Dropout for inputs whose first dimension is the examples of the batch.

    Parameters
    ----------
    p
        Share of the units left out in training.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return ``[b, …]`` with units left out and the others scaled by ``1 / (1 − p)``; as it is in evaluation."""
        if not self.training or self.p == 0:
            return rows
        space = _space(rows)
        if space is None:
            return functional.dropout(rows, self.p)
        kept = _own(torch.rand(_whole(rows, space), generator=_generator(rows, space), device=rows.device), rows, space)
        return rows * ((kept >= self.p).to(rows.dtype) / (1 - self.p))


class SharedDropout(RowDropout):
    """Dropout for what all workers compute alike, such as a table of all items: the same units for all of them."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return a tensor of any shape with units left out and the others scaled by ``1 / (1 − p)``."""
        space = _rows.get()
        if not self.training or self.p == 0:
            return rows
        if space is None:
            return functional.dropout(rows, self.p)
        kept = torch.rand(rows.shape, generator=_generator(rows, space), device=rows.device)
        return rows * ((kept >= self.p).to(rows.dtype) / (1 - self.p))


def normal_rows(like: torch.Tensor) -> torch.Tensor:
    """Return standard normal values of the shape of `like` ``[b, …]``, a stream an example."""
    space = _space(like)
    if space is None:
        return torch.randn_like(like)
    whole = torch.randn(_whole(like, space), generator=_generator(like, space), device=like.device)
    return _own(whole, like, space).to(like.dtype)


def _space(rows: torch.Tensor) -> BatchRows | None:
    """Return the rows of the current step, unless the tensor is of something else than its examples."""
    space = _rows.get()
    return space if space is not None and space.first + len(rows) <= space.total else None


def _whole(rows: torch.Tensor, space: BatchRows) -> tuple[int, ...]:
    return (space.total, *rows.shape[1:])


def _own(whole: torch.Tensor, rows: torch.Tensor, space: BatchRows) -> torch.Tensor:
    return whole[space.first : space.first + len(rows)]


def _generator(rows: torch.Tensor, space: BatchRows) -> torch.Generator:
    space.draws += 1
    return torch.Generator(rows.device).manual_seed((space.seed + space.draws) % 2**63)
