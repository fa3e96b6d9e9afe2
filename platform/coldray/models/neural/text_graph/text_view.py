"""The text view of items: an overview, and other texts pooled by attention.

Notation used for shapes: I items, n of them, R other texts, D embedding dim, d dimensions, F inputs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from coldray.models.neural.text_graph.texts import ENCODED, OTHER, OVERVIEW, has_embeddings, present
from coldray.models.state import Arrays
from coldray.models.transfer.similarity import arrays_under
from coldray.training.row_random import SharedDropout

ENCODED_DIM = 128
"""D where no text is embedded: of the vector that encoded attributes are summed to."""


class TextView(nn.Module):
    """A vector for each item, from its texts.

    Attention pools the other texts. A learned gate mixes them with the overview; without other texts the mixture is the
    overview, without an overview it is the other texts, and without either it is a vector learnt for such items.

    Parameters
    ----------
    arrays
        What is read; see :mod:`~coldray.models.neural.text_graph.texts`.
    dim
        d.
    dropout
        Share of units left out in training.
    """

    overview: torch.Tensor
    has_overview: torch.Tensor
    texts: torch.Tensor
    mask: torch.Tensor

    def __init__(self, arrays: Arrays, dim: int, dropout: float) -> None:
        super().__init__()
        self.encoded = None if has_embeddings(arrays) else EncodedAttributes(arrays, dropout)
        texts = [rows for _, rows in sorted(arrays_under(OTHER, arrays).items())]
        overviews = list(arrays_under(OVERVIEW, arrays).values())
        width = ENCODED_DIM if self.encoded is not None else overviews[0].shape[1]
        if self.encoded is None:
            self.register_buffer("overview", _shared(overviews[0]), persistent=False)
            self.register_buffer("has_overview", torch.from_numpy(present(overviews[0])), persistent=False)
            self.missing = nn.Parameter(torch.zeros(width))
        if texts:
            self.register_buffer("texts", torch.from_numpy(np.stack(texts, axis=1)), persistent=False)  # [I, R, D]
            mask = np.stack([present(rows) for rows in texts], axis=1)
            self.register_buffer("mask", torch.from_numpy(mask), persistent=False)  # [I, R]
            self.query = nn.Sequential(nn.Linear(width, dim), nn.ReLU(), nn.Linear(dim, 1))
            self.gate = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = SharedDropout(dropout)
        self.out = nn.Linear(width, dim)

    def forward(self, nodes: torch.Tensor | None = None) -> torch.Tensor:
        """Return the vectors of all items ``[I, d]``, or of some, int64 ``[n]``: ``[n, d]``."""
        mixed = self._mixed(nodes) if self.encoded is None else self.encoded(nodes)
        out: torch.Tensor = self.out(self.dropout(self.norm(mixed), nodes))
        return out

    def _mixed(self, nodes: torch.Tensor | None) -> torch.Tensor:
        overview, known = _rows(self.overview, nodes), _rows(self.has_overview, nodes)[:, None]
        if not hasattr(self, "texts"):
            return torch.where(known, overview, self.missing)
        texts, mask = _rows(self.texts, nodes), _rows(self.mask, nodes)
        pooled, some = self.pooled(texts, mask), mask.any(dim=1, keepdim=True)
        gate = torch.sigmoid(self.gate(torch.cat([overview, pooled], dim=1)))  # [n, D]
        gate = torch.where(some, torch.where(known, gate, 0), 1)
        return torch.where(known | some, gate * overview + (1 - gate) * pooled, self.missing)

    def pooled(self, texts: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the mean of texts ``[n, R, D]`` weighted by attention: ``[n, D]``, zeros where there is none."""
        logits = self.query(texts).squeeze(-1)  # [n, R]
        # A row without any text has equal weights for nothing.
        weights = logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(dim=1) * mask
        return torch.einsum("nr,nrd->nd", weights, texts)


class EncodedAttributes(nn.Module):
    """Encoded attributes summed to a vector, in place of an embedding.

    Parameters
    ----------
    arrays
        Rows of all items; see :mod:`~coldray.models.neural.text_graph.texts`.
    dropout
        Share of the terms of items left out in training.
    """

    indptr: torch.Tensor
    indices: torch.Tensor
    data: torch.Tensor

    def __init__(self, arrays: Arrays, dropout: float) -> None:
        super().__init__()
        for name in ("indptr", "indices", "data"):
            self.register_buffer(name, torch.from_numpy(np.array(arrays[ENCODED + name])), persistent=False)
        self.terms = nn.EmbeddingBag(int(arrays[ENCODED + "width"][0]), ENCODED_DIM, mode="sum")
        # Small, since the normalisation that follows makes the step relative to the size of the weights.
        nn.init.normal_(self.terms.weight, std=0.05)
        self.bias = nn.Parameter(torch.zeros(ENCODED_DIM))
        self.dropout = SharedDropout(dropout)

    def forward(self, nodes: torch.Tensor | None) -> torch.Tensor:
        """Return ``[n, D]``."""
        if nodes is None:
            offsets, indices, data, places = self.indptr[:-1], self.indices, self.data, None
        else:
            counts = self.indptr[nodes + 1] - self.indptr[nodes]
            offsets = counts.cumsum(0) - counts
            rows = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), counts)
            places = torch.arange(len(rows), device=nodes.device) + (self.indptr[nodes] - offsets)[rows]
            indices, data = self.indices[places], self.data[places]
        summed: torch.Tensor = self.terms(indices, offsets, per_sample_weights=self.dropout(data, places)) + self.bias
        return summed


def _shared(rows: npt.NDArray[np.float32]) -> torch.Tensor:
    """Return a tensor over the memory of `rows`, which is a view of a mapped file at times and is never written to."""
    return torch.from_numpy(rows if rows.flags.writeable else np.array(rows))


def _rows(table: torch.Tensor, nodes: torch.Tensor | None) -> torch.Tensor:
    return table if nodes is None else table[nodes]
