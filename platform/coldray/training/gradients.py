"""One step of gradient descent on the mean loss of a batch that several workers share.

The gradient of each worker is that of its share of ``Σ loss / B``; their sum over workers is exactly the gradient of
one worker on the whole batch. Gradients are summed here, after backward, and not by DistributedDataParallel: that
divides by the number of workers whatever their shares are, waits for ever for a worker whose batch left a parameter
alone, and exchanges gradients while backward through :meth:`~coldray.training.task.Workers.gather` exchanges its own.

Notation used for shapes: b examples on one worker, B over all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from coldray.core.errors import ModelError
from coldray.training.cluster.workers import WorkerGroup
from coldray.training.config import TrainingConfig
from coldray.training.task import Loss

_SMALLEST_SCALE = 1.0
"""Of the float16 gradient scaler: gradients that overflow without being scaled up are not the scaler's fault."""


class Divergence(Exception):  # noqa: N818 - it becomes a DivergedError once the checkpoint to go back to is known
    """The loss, the gradient or a weight is not finite any more; raised by all workers alike."""


@dataclass(frozen=True)
class BatchSums:
    """Sums over the examples of a batch, of all workers."""

    loss: float
    parts: Mapping[str, float]


class GradientStep:
    """The optimizer of a module, over all workers."""

    def __init__(
        self,
        module: torch.nn.Module,
        config: TrainingConfig,
        workers: WorkerGroup,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.module, self.workers, self.device = module, workers, device
        self.clip_norm, self.l1 = config.clip_norm, config.l1
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        self.optimizer: torch.optim.Optimizer = kind(
            self.parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self._versions = self._buffer_versions()
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def __call__(self, loss: Loss, n_local: int, n_batch: int, learning_rate: float) -> BatchSums:
        """Move the weights one step.

        Parameters
        ----------
        loss
            Loss of this worker's examples.
        n_local, n_batch
            Examples of this worker, b, and of all workers, B.
        learning_rate
            That of this step.

        Returns
        -------
        BatchSums
            Sums of the loss and its parts over all B examples.

        Raises
        ------
        Divergence
            If the loss or the gradient is NaN or infinite; the weights are as they were before.
        ModelError
            If the loss has another shape than ``[b]``.
        """
        if loss.per_example.shape != (n_local,):
            raise ModelError(
                f"The loss of {n_local} examples has shape {list(loss.per_example.shape)}; it must be one number an "
                f"example, [{n_local}]."
            )
        self.optimizer.zero_grad(set_to_none=True)
        self._backward(loss.per_example, n_batch)
        sums = self._exchange(loss)
        if not math.isfinite(sums.loss):
            raise Divergence(f"the loss is {sums.loss / n_batch}")
        self._move(learning_rate)
        return sums

    def _backward(self, per_example: torch.Tensor, n_batch: int) -> None:
        half = per_example.dtype in (torch.float16, torch.bfloat16)
        total = self.scaler.scale(per_example.sum(dtype=torch.float32 if half else None) / n_batch)
        starts = [(total, torch.ones_like(total))] if total.requires_grad else []
        starts += [(gathered, torch.zeros_like(gathered)) for gathered in self.workers.take_gathered()]
        if starts:
            tensors, gradients = zip(*starts, strict=True)
            torch.autograd.backward(tensors, gradients)

    def _exchange(self, loss: Loss) -> BatchSums:
        """Sum losses and gradients over all workers; bring buffers that any of them changed to those of the first."""
        names = sorted(loss.parts)
        changed = [old != new for old, new in zip(self._versions, self._buffer_versions(), strict=True)]
        present = [parameter.grad is not None for parameter in self.parameters]
        totals = [
            tensor.detach().double().sum() for tensor in (loss.per_example, *(loss.parts[name] for name in names))
        ]
        flags = torch.tensor([*present, *changed], dtype=torch.float64, device=self.device)
        summed = self.workers.sum(torch.cat([torch.stack(totals).to(self.device), flags])).tolist()
        values, flagged = summed[: len(totals)], [bool(count) for count in summed[len(totals) :]]
        if self.workers.size > 1:
            self._sum_gradients(flagged[: len(present)])
            buffers = list(self.module.buffers())
            self.workers.copy_from_first(
                buffer for buffer, flag in zip(buffers, flagged[len(present) :], strict=True) if flag
            )
        self._versions = self._buffer_versions()
        return BatchSums(values[0], dict(zip(names, values[1:], strict=True)))

    def _sum_gradients(self, present: list[bool]) -> None:
        """Sum the gradients that any worker has, one exchange for all of a type; the others stay absent."""
        groups: dict[torch.dtype, list[torch.nn.Parameter]] = {}
        for parameter, wanted in zip(self.parameters, present, strict=True):
            if wanted:
                groups.setdefault(parameter.dtype, []).append(parameter)
        for parameters in groups.values():
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            flat = self.workers.sum(torch.cat([gradient.reshape(-1) for gradient in gradients]))
            pieces = torch.split(flat, [parameter.numel() for parameter in parameters])
            for parameter, piece in zip(parameters, pieces, strict=True):
                parameter.grad = piece.view_as(parameter)

    def _move(self, learning_rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.scaler.unscale_(self.optimizer)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        length = norm.item()
        finite = math.isfinite(length)
        if not finite and (not self.scaler.is_enabled() or self.scaler.get_scale() < _SMALLEST_SCALE):
            raise Divergence(f"the norm of the gradient is {length}")
        if finite and self.clip_norm is not None and length > self.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.clip_norm, norm)
        self.scaler.step(self.optimizer)  # leaves out a step whose float16 gradients overflowed, and lowers its scale
        self.scaler.update()
        if self.l1 and finite:
            with torch.no_grad():
                for parameter in self.parameters:
                    parameter.copy_(torch.nn.functional.softshrink(parameter, learning_rate * self.l1))

    def _buffer_versions(self) -> list[tuple[int, int]]:
        """Return marks that differ after a buffer is written to, such as the running means of a batch norm.

        The forward pass does that, so they are compared with those at the end of the step before. One worker alone
        has nobody to agree with.
        """
        if self.workers.size == 1:
            return []
        return [(buffer.data_ptr(), buffer._version) for buffer in self.module.buffers()]
