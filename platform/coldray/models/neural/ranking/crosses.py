"""How the fields of who asks and of an item are crossed: by a factorisation, by layers, and by cross layers.

Each of the three gives a score; FM is the first, DeepFM (Guo et al., IJCAI 2017, Eq. 1) the sum of the first two, and
DCN-v2 in its parallel form (Wang et al., WWW 2021, Fig. 1b) that of the last two, as what it ends in is linear in both.

Notation used for shapes: b who ask, w items of each, n items that all of them are scored against, a fields of who asks,
f of an item, d dimensions, D = (a + f) d.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Self, TypeAlias

import torch
from torch import nn

from coldray.training.row_random import RowDropout

_BLOCK_FLOATS = 1 << 22
"""Hidden units held at once while many items are scored: 16 MiB, which caches still help."""
Against: TypeAlias = Callable[["Fields"], torch.Tensor]
"""From the fields of who asks to scores ``[b, n]`` of some items."""


class Fields(NamedTuple):
    """What is known of some rows, askers or items ``[…]``: features i with values x_i and vectors v_i, by field."""

    vectors: torch.Tensor
    """The sum of ``x_i v_i`` over each field, ``[…, fields, d]``."""
    weights: torch.Tensor
    """The sum of ``x_i w_i`` over all, ``[…]``."""
    squares: torch.Tensor
    """The sum of ``x_i² |v_i|²`` over all, ``[…]``."""

    @classmethod
    def beside(cls, parts: list[tuple[torch.Tensor, torch.Tensor]]) -> Self:
        """Join fields, each of which is sums ``[…, 1 + d]``, of weights and of vectors, and squares ``[…]``."""
        sums = torch.stack([one for one, _ in parts], dim=-2)
        squares = torch.stack([one for _, one in parts])
        return cls(sums[..., 1:], sums[..., 0].sum(dim=-1), squares.sum(dim=0))

    def rows(self, chosen: slice) -> Fields:
        """Return some of the rows."""
        return Fields(*(part[chosen] for part in self))

    @property
    def flat(self) -> torch.Tensor:
        """The vectors side by side ``[…, fields · d]``."""
        return self.vectors.flatten(-2)

    @property
    def pairs(self) -> torch.Tensor:
        """What the pairs of features within a row are worth, ``Σ_{i<j} ⟨v_i, v_j⟩ x_i x_j`` ``[…]``."""
        return (self.vectors.sum(dim=-2).square().sum(dim=-1) - self.squares) / 2


class Cross(nn.Module, ABC):
    """A score of who asks and an item."""

    units: int
    """Numbers that are held for a pair while it is scored."""

    @abstractmethod
    def pairs(self, askers: Fields, items: Fields) -> torch.Tensor:
        """Return ``[b, w]`` of those who ask ``[b]`` and items of each ``[b, w]``, or the same ``[1, w]`` of all."""

    def against(self, items: Fields) -> Against:
        """Return the function that scores who ask against the same items ``[n]``, some of them at a time."""
        shared = Fields(*(part[None] for part in items))
        step = block_of(len(items.weights) * self.units)

        def scores(askers: Fields) -> torch.Tensor:
            found = askers.weights.new_empty(len(askers.weights), len(items.weights))
            for start in range(0, len(found), step):
                chosen = slice(start, start + step)
                found[chosen] = self.pairs(askers.rows(chosen), shared)
            return found

        return scores


def block_of(numbers: int) -> int:
    """Return for how many who ask scores are computed at a time, if each takes so many numbers."""
    return max(1, _BLOCK_FLOATS // max(numbers, 1))


class Factorisation(Cross):
    """A factorisation machine over all features of both (Rendle, ICDM 2010, Eq. 1).

    ``ŷ = w_0 + Σ_i w_i x_i + Σ_{i<j} ⟨v_i, v_j⟩ x_i x_j``, whose pairs are ``½ (|Σ_i x_i v_i|² − Σ_i x_i² |v_i|²)`` by
    his Lemma 3.1: what pairs within each side are worth, and the inner product of the sums of both. Against all items
    that is one matrix product.
    """

    units = 1

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))  # w_0

    def pairs(self, askers: Fields, items: Fields) -> torch.Tensor:
        """Return ``[b, w]``."""
        between = items.vectors.sum(dim=-2) @ askers.vectors.sum(dim=-2)[..., None]  # [b, w, 1]
        return between[..., 0] + self._within(askers)[:, None] + self._within(items)

    def against(self, items: Fields) -> Against:
        """Return the function that scores who ask against the same items."""
        summed, within = items.vectors.sum(dim=-2).T, self._within(items)  # [d, n], [n]

        def scores(askers: Fields) -> torch.Tensor:
            return askers.vectors.sum(dim=-2) @ summed + self._within(askers)[:, None] + within

        return scores

    def _within(self, one: Fields) -> torch.Tensor:
        """Return what the features of one side are worth by themselves, with half of w_0."""
        return one.weights + one.pairs + self.bias / 2


class Layers(Cross):
    """ReLU layers over the fields side by side, and a weighted sum of the last (Guo et al., Eq. 3 and 4)."""

    def __init__(self, askers: int, items: int, hidden: int, n_layers: int, dropout: float) -> None:
        super().__init__()
        # The first layer reads both side by side: what each adds to it is computed once, not once a pair.
        self.of_asker = nn.Linear(askers, hidden)
        self.of_item = nn.Linear(items, hidden, bias=False)
        layers: list[nn.Module] = [nn.ReLU(), RowDropout(dropout)]
        for _ in range(n_layers - 1):
            layers += [nn.Linear(hidden, hidden), nn.ReLU(), RowDropout(dropout)]
        self.rest = nn.Sequential(*layers, nn.Linear(hidden, 1))
        self.units = 3 * hidden

    def pairs(self, askers: Fields, items: Fields) -> torch.Tensor:
        """Return ``[b, w]``."""
        units = self.of_asker(askers.flat)[:, None] + self.of_item(items.flat)  # [b, w, h]
        scores: torch.Tensor = self.rest(units)[..., 0]
        return scores


class CrossLayers(Cross):
    """Layers that multiply by what they began with, ``x_{l+1} = x_0 ∘ (W_l x_l + b_l) + x_l`` (Wang et al., Eq. 1).

    x_0 is all fields side by side; the score is a weighted sum of the last. With a rank, ``W_l = U_l V_lᵀ`` (Eq. 2).
    """

    def __init__(self, askers: int, items: int, n_layers: int, rank: int | None) -> None:
        super().__init__()
        size = askers + items

        def matrix() -> nn.Module:
            if rank is None:
                return nn.Linear(size, size)
            return nn.Sequential(nn.Linear(size, rank, bias=False), nn.Linear(rank, size))

        self.layers = nn.ModuleList(matrix() for _ in range(n_layers))
        self.last = nn.Linear(size, 1)
        self.units = 3 * size

    def pairs(self, askers: Fields, items: Fields) -> torch.Tensor:
        """Return ``[b, w]``."""
        asked, offered = askers.flat[:, None], items.flat
        shape = (len(asked), offered.shape[1])
        first = torch.cat([asked.expand(*shape, -1), offered.expand(*shape, -1)], dim=-1)  # [b, w, D]
        crossed = first
        for layer in self.layers:
            crossed = first * layer(crossed) + crossed
        scores: torch.Tensor = self.last(crossed)[..., 0]
        return scores
