"""Random draws for the rows of a batch that do not depend on how many workers share it.

What a module draws, each worker draws for the whole batch, from the same seed, and takes its own rows: dropout then
leaves out the same units of an example whoever computes it, and any number of workers trains the same model. Outside a
training step, draws come from torch's global generator, as those of any module. What a batch is made of is drawn by
:func:`row_uniforms`, a value for each row and place, whatever other rows there are.

The seed of every draw is derived from its position in the training, so that a replay draws the same again.

Notation used for shapes: b rows of this worker, B rows of the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Purpose(IntEnum):
    """What is drawn; each purpose has a stream of its own."""

    WEIGHTS = 0
    ORDER = 1
    BATCH = 2
    MODULE = 3
    VALIDATION = 4
    ROWS = 5


def derived_seed(seed: int, purpose: Purpose, epoch: int = 0, step: int = 0, rank: int = 0) -> int:
    """Return a 64-bit seed that depends on all the arguments; neighbouring positions give unrelated streams."""
    sequence = np.random.SeedSequence([seed, purpose, epoch, step, rank])
    return int(sequence.generate_state(1, np.uint64)[0])


def derived_generator(seed: int, purpose: Purpose, epoch: int, step: int = 0, rank: int = 0) -> torch.Generator:
    """Return a generator on the CPU with the seed of that position."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose, epoch, step, rank))


def seed_default_generator(seed: int, device: torch.device) -> None:
    """Seed torch's default generators of the CPU and of that device; ``torch.manual_seed`` would seed all devices."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    torch.default_generator.manual_seed(seed)


_GOLDEN = -0x61C8864680B583EB
"""2⁶⁴ over the golden ratio, as a signed number: what SplitMix64 counts by."""


@dataclass
class BatchRows:
    """Which rows of the whole batch this worker has, and the seed of what is drawn for them."""

    first: int
    total: int
    seed: int
    draws: int = 0
    """Draws so far: each has a stream of its own."""


class RowModule(nn.Module):
    """A layer that draws for the rows of a batch; within a training step it is told which they are."""

    rows: BatchRows | None = None
    """Those of the current step; None outside of one."""

    def _space(self, rows: torch.Tensor) -> BatchRows | None:
        """Return the rows of the current step, unless the tensor is of something else than its examples."""
        space = self.rows
        return space if space is not None and space.first + len(rows) <= space.total else None


@contextmanager
def batch_rows(module: nn.Module, rows: BatchRows) -> Iterator[None]:
    """Tell the layers of a module that draw which rows of a batch they are about to see."""
    layers = [layer for layer in module.modules() if isinstance(layer, RowModule)]
    for layer in layers:
        layer.rows = rows
    try:
        yield
    finally:
        for layer in layers:
            layer.rows = None


class RowDropout(RowModule):
    """Dropout for inputs whose first dimension is the examples of the batch.

    Of more than two dimensions, such as the places of a session, the same units of an example are left out throughout:
    how many there are may differ between workers. So it is done in recurrent networks (Gal and Ghahramani, *A
    theoretically grounded application of dropout in recurrent neural networks*, NeurIPS 2016).

    Parameters
    ----------
    p
        Share of the units left out in training.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, rows: torch.Tensor, keys: torch.Tensor | None = None) -> torch.Tensor:
        """Return ``[b, …, d]`` with units left out and the others scaled by ``1 / (1 − p)``; as it is in evaluation.

        Parameters
        ----------
        keys
            Integers ``[b]`` for rows that are no examples, such as items: rows of the same key lose the same units,
            on all workers.
        """
        if not self.training or self.p == 0:
            return rows
        draws = self._draws(rows, keys)
        if draws is None:
            return functional.dropout(rows, self.p)
        return rows * ((draws >= self.p).to(rows.dtype) / (1 - self.p))

    def _draws(self, rows: torch.Tensor, keys: torch.Tensor | None) -> torch.Tensor | None:
        """Return uniform numbers that broadcast to `rows`; None outside a training step."""
        if keys is not None:
            return _of_keys(self.rows, rows, keys)
        units = rows if rows.dim() < 3 else rows[(slice(None), *[slice(1)] * (rows.dim() - 2))]
        space = self._space(units)
        if space is None:
            return None
        whole = torch.rand(_whole(units, space), generator=_generator(units, space), device=rows.device)
        return _own(whole, units, space)


class SharedDropout(RowDropout):
    """Dropout for what all workers compute alike, such as a table of all items: the same units for all of them."""

    def _draws(self, rows: torch.Tensor, keys: torch.Tensor | None) -> torch.Tensor | None:
        """Return uniform numbers of the shape of `rows`, which is any; None outside a training step."""
        space = self.rows
        if keys is not None or space is None:
            return None if keys is None else _of_keys(space, rows, keys)
        return torch.rand(rows.shape, generator=_generator(rows, space), device=rows.device)


class RowNormal(RowModule):
    """Standard normal values for the examples of the batch, a stream an example."""

    def forward(self, like: torch.Tensor) -> torch.Tensor:
        """Return values of the shape of `like` ``[b, …]``."""
        space = self._space(like)
        if space is None:
            return torch.randn_like(like)
        whole = torch.randn(_whole(like, space), generator=_generator(like, space), device=like.device)
        return _own(whole, like, space).to(like.dtype)


def row_uniforms(generator: torch.Generator, rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return numbers in [0, 1) that depend on the row, the place and the generator's next draw alone.

    They are the counters `rows` and `places` mixed by the finaliser of SplitMix64 (Steele, Lea and Flood, *Fast
    splittable pseudorandom number generators*, OOPSLA 2014), so that they need not be drawn in any order.

    Parameters
    ----------
    generator
        On the CPU; all workers have one in the same state, and one number is drawn of it.
    rows, places
        Integers that broadcast: the examples, whoever has them, and what is drawn for each.

    Returns
    -------
    torch.Tensor
        float64, of the shape that `rows` and `places` broadcast to.
    """
    return _uniforms(int(torch.randint(2**62, (), generator=generator)), rows, places)


def _of_keys(space: BatchRows | None, rows: torch.Tensor, keys: torch.Tensor) -> torch.Tensor | None:
    """Return uniform numbers for rows ``[b]`` or ``[b, d]`` by their keys; None outside a training step."""
    if space is None:
        return None
    space.draws += 1
    seed = (space.seed + space.draws) % 2**62
    if rows.dim() == 1:
        return _uniforms(seed, keys, torch.zeros_like(keys))
    return _uniforms(seed, keys[:, None], torch.arange(rows.shape[1], device=rows.device))


def _uniforms(key: int, rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    mixed = _mix(_mix(rows.long() + key) + places.long() * _GOLDEN)
    return _shifted(mixed, 11).double() / 2**53


def _mix(values: torch.Tensor) -> torch.Tensor:
    """Return int64 whose bits all depend on all bits of `values`; products wrap around."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        values = (values ^ _shifted(values, shift)) * factor
    return values ^ _shifted(values, 31)


def _shifted(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Return the logical right shift; torch's own copies the sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def _whole(rows: torch.Tensor, space: BatchRows) -> tuple[int, ...]:
    return (space.total, *rows.shape[1:])


def _own(whole: torch.Tensor, rows: torch.Tensor, space: BatchRows) -> torch.Tensor:
    return whole[space.first : space.first + len(rows)]


def _generator(rows: torch.Tensor, space: BatchRows) -> torch.Generator:
    space.draws += 1
    return torch.Generator(rows.device).manual_seed((space.seed + space.draws) % 2**63)
