"""How far scores are from telling the clicked items from others.

Notation used for shapes: m clicks to be predicted, n items that compete.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from coldray.training.negatives import summed_powers


def softmax_loss(own: torch.Tensor, others: torch.Tensor, *, among: bool) -> torch.Tensor:
    """Return the cross-entropy of each click ``[m]``.

    Parameters
    ----------
    own
        Score of the clicked item ``[m]``.
    others
        Scores of those that compete ``[m, n]``, minus infinity for one that does not; they are overwritten.
    among
        Whether the clicked item is one of these.
    """
    total, highest = summed_powers(others, own)
    if not among:
        total = total + (own - highest).exp()
    return total.log() + highest - own


def power_of(n_negatives: int, n_items: int, calibration: float) -> float:
    """Return β of gBCE, ``α (t (1 − 1/α) + 1/α)``, where ``α = k / (I − 1)`` of the negatives are drawn (Eq. 14)."""
    share = min(n_negatives / max(n_items - 1, 1), 1.0)
    return share * (calibration * (1 - 1 / share) + 1 / share)


def gbce_loss(own: torch.Tensor, others: torch.Tensor, power: float) -> torch.Tensor:
    """Return the generalised binary cross-entropy of each click ``[m]``, the mean over it and its negatives.

    ``−(log σ(s)^β + Σ_j log(1 − σ(s_j))) / (k + 1)``: Petrov and Macdonald, *gSASRec: Reducing overconfidence in
    sequential recommendation trained with negative sampling*, RecSys 2023, Eq. 12.

    Parameters
    ----------
    own
        Score of the clicked item ``[m]``.
    others
        Scores of the negatives ``[m, n]``, minus infinity for one that is none.
    power
        β.
    """
    k = (others > -torch.inf).sum(dim=1)
    return (power * functional.softplus(-own) + functional.softplus(others).sum(dim=1)) / (k + 1)
