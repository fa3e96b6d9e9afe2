"""Blocks of self-attention over sessions that lie one after the other, so that nothing is computed for padding.

Only attention itself looks at several clicks at once. For it sessions are laid out as rows of equal length, those of
about the same length together: with half of them shorter than a tenth of the longest, rows of one length for all would
be padding for the most part.

Source: Vaswani et al., *Attention is all you need*, NeurIPS 2017; the norm before each part, Xiong et al., *On layer
normalization in the transformer architecture*, ICML 2020.

Notation used for shapes: b sessions, s clicks of all of them, L the longest of a part, d dimensions, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from coldray.training.row_random import RowDropout


@dataclass(frozen=True, eq=False)
class _Part:
    """Sessions of about the same length, which lie together."""

    clicks: slice
    """Where their clicks are among all."""
    cells: torch.Tensor
    """Where each goes among the cells of the rows ``[c]``."""
    read: torch.Tensor
    """Which cells of the rows are a click's ``[b', L]``."""


class Packing:
    """Where the clicks of sessions lie, one session after the other, shorter ones first.

    Parameters
    ----------
    lengths
        Clicks of each session, int64 ``[b]``, ascending and positive.
    """

    def __init__(self, lengths: torch.Tensor) -> None:
        counts, device = lengths.cpu(), lengths.device
        self.parts: list[_Part] = []
        start = begin = 0
        while start < len(counts):
            # Powers of two: no row is more than half padding, and there are few parts.
            widest = 1 << (int(counts[start]) - 1).bit_length()
            stop = int(torch.searchsorted(counts, widest, right=True))
            read = torch.arange(int(counts[stop - 1])) < counts[start:stop, None]
            cells = read.flatten().nonzero()[:, 0]
            self.parts.append(_Part(slice(begin, begin + len(cells)), cells.to(device), read.to(device)))
            start, begin = stop, begin + len(cells)

    def attended(self, heads: torch.Tensor, *, causal: bool) -> torch.Tensor:
        """Return what each click takes of those of its session: of those up to it, if `causal`, else of all.

        Parameters
        ----------
        heads
            Queries, keys and values ``[s, 3, H, d / H]``.

        Returns
        -------
        torch.Tensor
            ``[s, d]``.
        """
        found = [heads.new_zeros(0, heads.shape[2] * heads.shape[3])]
        for part in self.parts:
            rows, longest = part.read.shape
            padded = heads.new_zeros(rows * longest, *heads.shape[1:]).index_copy(0, part.cells, heads[part.clicks])
            query, key, value = padded.view(rows, longest, *heads.shape[1:]).permute(2, 0, 3, 1, 4)  # [b', H, L, d / H]
            # Padding comes last, where no click looks if it looks back alone.
            mask = None if causal else part.read[:, None, None, :]
            taken = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
            found.append(taken.transpose(1, 2).reshape(rows * longest, -1)[part.cells])
        return torch.cat(found)


class Block(nn.Module):
    """Self-attention, then two layers for each click by itself; both are added to what comes in.

    Parameters
    ----------
    dim, n_heads
        d and H.
    dropout
        Share of what is added, and of the units between the two layers, left out in training.
    """

    def __init__(self, dim: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.before_attention, self.before_layers = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.heads, self.joined = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.first, self.second = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.dropout = RowDropout(dropout)

    def forward(self, clicks: torch.Tensor, packing: Packing, keys: torch.Tensor, *, causal: bool) -> torch.Tensor:
        """Return ``[s, d]``; `keys` ``[s]`` tell clicks from each other, so that each loses units of its own."""
        heads = self.heads(self.before_attention(clicks)).view(len(clicks), 3, self.n_heads, -1)
        clicks = clicks + self.dropout(self.joined(packing.attended(heads, causal=causal)), keys)
        inner = self.dropout(functional.gelu(self.first(self.before_layers(clicks))), keys)
        out: torch.Tensor = clicks + self.dropout(self.second(inner), keys)
        return out
