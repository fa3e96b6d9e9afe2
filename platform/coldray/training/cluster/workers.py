"""The workers that train together, and what they tell each other.

Notation used for shapes: b rows of one worker, W workers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist


class WorkerGroup(ABC):
    """All workers of a training, as one of them sees it. Every method is called by all of them, in the same order."""

    @property
    @abstractmethod
    def rank(self) -> int:
        """Number of this worker, from 0."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many there are."""

    @abstractmethod
    def gather(self, rows: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Return the rows of all workers ``[Σb, …]`` and where those of this worker begin; gradients flow back.

        Workers may hold different numbers of rows, none included.
        """

    @abstractmethod
    def take_gathered(self) -> list[torch.Tensor]:
        """Return, and forget, what was gathered with gradients since the last call: where backward has to begin too.

        Backward through a gather is an exchange of its own. A worker whose loss does not depend on what it gathered,
        for want of examples, must take part nevertheless, or the others wait for it for ever.
        """

    @abstractmethod
    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum over all workers, written over `tensor`."""

    @abstractmethod
    def copy_from_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrite the tensors with those of worker 0."""

    @abstractmethod
    def text_of_first(self, text: str, device: torch.device) -> str:
        """Return the text of worker 0; those of the others are ignored."""


class OneWorker(WorkerGroup):
    """A training in one process."""

    rank = 0
    size = 1

    def gather(self, rows: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Return the rows."""
        return rows, 0

    def take_gathered(self) -> list[torch.Tensor]:
        """Return nothing: backward through no exchange has to begin anywhere."""
        return []

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor."""
        return tensor

    def copy_from_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Leave the tensors as they are."""

    def text_of_first(self, text: str, device: torch.device) -> str:
        """Return the text."""
        return text


class ProcessGroupWorkers(WorkerGroup):
    """The processes of torch's default process group."""

    def __init__(self) -> None:
        self._gathered: list[torch.Tensor] = []

    @property
    def rank(self) -> int:
        """Number of this worker, from 0."""
        return int(dist.get_rank())

    @property
    def size(self) -> int:
        """How many there are."""
        return int(dist.get_world_size())

    def gather(self, rows: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Return the rows of all workers ``[Σb, …]`` and where those of this worker begin; gradients flow back."""
        wanted = torch.is_grad_enabled() and rows.requires_grad
        counts, differentiable = self._describe(rows, wanted)
        if differentiable and not wanted:
            rows = rows.detach().requires_grad_()
        padding = rows.new_zeros(max(counts) - len(rows), *rows.shape[1:])
        padded: torch.Tensor = _Gather.apply(torch.cat([rows, padding]))  # type: ignore[no-untyped-call] # [W, max b, …]
        whole = torch.cat([part[:count] for part, count in zip(padded, counts, strict=True)])
        if differentiable:
            self._gathered.append(whole)
        return whole, sum(counts[: self.rank])

    def _describe(self, rows: torch.Tensor, wanted: bool) -> tuple[list[int], bool]:
        """Return how many rows each worker has, and whether any of them needs a gradient."""
        table = torch.zeros(self.size, 2, dtype=torch.int64, device=rows.device)
        table[self.rank] = torch.tensor([len(rows), int(wanted)])
        dist.all_reduce(table)
        counts, wishes = table.T.tolist()
        return counts, any(wishes)

    def take_gathered(self) -> list[torch.Tensor]:
        """Return, and forget, what was gathered with gradients since the last call."""
        gathered, self._gathered = self._gathered, []
        return gathered

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum over all workers, written over `tensor`."""
        dist.all_reduce(tensor)
        return tensor

    def copy_from_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrite the tensors with those of worker 0."""
        for tensor in tensors:
            dense = tensor.detach().contiguous()
            dist.broadcast(dense, src=0)
            if dense.data_ptr() != tensor.data_ptr():
                tensor.detach().copy_(dense)

    def text_of_first(self, text: str, device: torch.device) -> str:
        """Return the text of worker 0; those of the others are ignored."""
        data = text.encode()
        length = torch.tensor([len(data)], device=device)
        dist.broadcast(length, src=0)
        content = torch.zeros(int(length), dtype=torch.uint8, device=device)
        if self.rank == 0:
            content[:] = torch.tensor(list(data), dtype=torch.uint8)
        dist.broadcast(content, src=0)
        return bytes(content.tolist()).decode()


class _Gather(torch.autograd.Function):
    """Tensors of one shape from all workers, stacked; the gradient of each is the sum of what all workers send back."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        # A reduce-scatter would send less, but is not to be had on every backend.
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total[dist.get_rank()]
