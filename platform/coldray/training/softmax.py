"""Sums of powers over many items, in the memory of their logits."""

from __future__ import annotations

import torch


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
