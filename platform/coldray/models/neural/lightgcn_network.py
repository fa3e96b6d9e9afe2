"""The network of LightGCN: vectors of items, mixed along the clicks of users.

With the clicks normalised by how many both sides have, ``R = D_u^(−½) X D_i^(−½)``, a layer goes from items to users
and back, ``E_(k+1) = Rᵀ R E_k``, and an item is the mean of its layers, ``V = Σ_k E_k / (K + 1)``. A user has no vector
that would have to be learnt: he is ``R_u V``, what his clicks give, so that one the fit never saw is served alike.
The variant ``gcn`` has weights and a nonlinearity in each layer, ``E_(k+1) = E_k + LeakyReLU(Rᵀ R E_k W_k + b_k)``, and
an item is its last layer.

Source: He et al., *LightGCN: Simplifying and powering graph convolution network for recommendation*, SIGIR 2020; the
variant after Kipf and Welling, *Semi-supervised classification with graph convolutional networks*, ICLR 2017.

Notation used for shapes: U users, I items, d dimensions, K layers, c clicks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn
from torch.nn import functional

from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items, Scores
from coldray.models.neural.base import Network, NeuralConfig
from coldray.training.task import Batch

FIRST_SCALE = 0.1
"""Standard deviation of the first vectors."""


class LightGCNConfig(NeuralConfig):
    """Parameters of `LightGCN`; some of those of the training have other defaults."""

    kind: Literal["lightgcn", "gcn"] = "lightgcn"
    """``gcn`` has weights and a nonlinearity in each layer."""
    embedding_dim: PositiveInt = 128
    """d."""
    n_layers: int = Field(default=1, ge=0, le=8)
    """K, each from items to users and back; 0 factorises without a graph."""
    loss: Literal["softmax", "bpr"] = "softmax"
    """``softmax``: a click is to be found among many items at once, by the cosine of user and item (Wu et al., *On the
    effectiveness of sampled softmax loss for item recommendation*, arXiv 2201.02327): a few epochs do. ``bpr``: against
    a few negatives of its own, by the inner product, as the paper of LightGCN has it."""
    temperature: PositiveFloat = 0.1
    """What the cosines of the softmax are divided by."""
    candidates: PositiveInt = 4096
    """Items of the softmax, drawn for each step and shared by its clicks; all items if there are no more."""
    negatives: PositiveInt = 8
    """Negatives of a click, of ``bpr``."""
    negatives_kind: Literal["uniform", "popularity", "hard"] = "uniform"
    """How those are drawn, see :class:`~coldray.training.negatives.NegativesConfig`."""
    learning_rate: PositiveFloat = 1e-2
    schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    batch_size: PositiveInt = 4096
    """Clicks of a step over all workers together; all of them where there are fewer. Items are propagated once a step,
    so small batches take long."""
    epochs: PositiveInt = 5
    """Of the softmax. ``bpr`` wants many more."""
    patience: PositiveInt | None = None


@dataclass(frozen=True, eq=False)
class Bags:
    """Rows of a sparse matrix, as an embedding bag reads them."""

    starts: torch.Tensor
    columns: torch.Tensor
    values: torch.Tensor

    def sums(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the product with dense rows."""
        return functional.embedding_bag(
            self.columns, rows, self.starts, mode="sum", per_sample_weights=self.values.to(rows.dtype),
            include_last_offset=True,
        )  # fmt: skip


class SparseProduct(torch.autograd.Function):
    """``A X`` for a constant sparse A; its transpose is given, which makes the way back as fast as the way there."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, matrix: Bags, transposed: Bags) -> torch.Tensor:
        """Return ``A X``."""
        ctx.transposed = transposed
        return matrix.sums(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Return ``Aᵀ G``."""
        return ctx.transposed.sums(gradients[0].contiguous()), None, None


def graph_bytes(n_users: int, n_items: int, n_clicks: int) -> int:
    """Return what the normalised clicks and their transpose take while they are made."""
    return 2 * (16 * n_clicks + 8 * (n_users + n_items)) + 16 * n_clicks


class PropagatedItems(Network):
    """Vectors of items, and what mixes them.

    Parameters
    ----------
    config
        Sizes, and which kind.
    clicks
        Along which they are mixed, CSR ``[U, I]``.
    """

    starts: torch.Tensor
    columns: torch.Tensor
    values: torch.Tensor
    starts_of_items: torch.Tensor
    users_of_items: torch.Tensor
    values_of_items: torch.Tensor
    scales: torch.Tensor

    def __init__(self, config: LightGCNConfig, clicks: sp.csr_array) -> None:
        super().__init__()
        self.config = config
        self.items = nn.Embedding(clicks.shape[1], config.embedding_dim)
        nn.init.normal_(self.items.weight, std=FIRST_SCALE)
        n_weights = config.n_layers if config.kind == "gcn" else 0
        self.weights = nn.ModuleList(nn.Linear(config.embedding_dim, config.embedding_dim) for _ in range(n_weights))
        counts = np.bincount(clicks.indices, minlength=clicks.shape[1])
        scales = inverse_roots(counts)
        lengths = np.diff(clicks.indptr)
        values = np.repeat(inverse_roots(lengths), lengths) * scales[clicks.indices]
        normalised = sp.csr_array((values, clicks.indices, clicks.indptr), shape=clicks.shape)
        for names, matrix in (
            (("starts", "columns", "values"), normalised),
            (("starts_of_items", "users_of_items", "values_of_items"), sp.csr_array(normalised.T)),
        ):
            arrays = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data.astype(np.float32)
            for name, array in zip(names, arrays, strict=True):
                self.register_buffer(name, torch.from_numpy(array), persistent=False)
        self.register_buffer("scales", torch.from_numpy(scales), persistent=False)

    @property
    def of_users(self) -> Bags:
        """R ``[U, I]``."""
        return Bags(self.starts, self.columns, self.values)

    @property
    def of_items(self) -> Bags:
        """Rᵀ ``[I, U]``."""
        return Bags(self.starts_of_items, self.users_of_items, self.values_of_items)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the vectors of all users, ``R V`` ``[U, d]``, and of all items, V ``[I, d]``."""
        vectors = self.vectors()
        return self.to_users(vectors), vectors

    def vectors(self) -> torch.Tensor:
        """Return V ``[I, d]``."""
        layers = [self.items.weight]
        for number in range(self.config.n_layers):
            back: torch.Tensor = SparseProduct.apply(self.to_users(layers[-1]), self.of_items, self.of_users)  # type: ignore[no-untyped-call]
            if self.config.kind == "gcn":
                back = layers[-1] + functional.leaky_relu(self.weights[number](back))
            layers.append(back)
        return layers[-1] if self.config.kind == "gcn" else torch.stack(layers).mean(dim=0)

    def compared(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return vectors of items ``[n, d]`` as users are compared with them: of length 1 for the cosines of a softmax.

        The length of a user's own vector changes no order.
        """
        return functional.normalize(vectors, dim=1) if self.config.loss == "softmax" else vectors

    def to_users(self, rows: torch.Tensor) -> torch.Tensor:
        """Return ``R E`` ``[U, d]`` of rows E ``[I, d]``."""
        product: torch.Tensor = SparseProduct.apply(rows, self.of_users, self.of_items)  # type: ignore[no-untyped-call]
        return product

    def scorer(self, items: Items) -> Scorer:
        """Return the function from histories to inner products with `items`."""
        vectors = self.vectors()
        wanted = self.compared(vectors[torch.from_numpy(np.array(items, np.int64)).to(vectors.device)]).T  # [d, n]
        scaled = self.scales[:, None] * vectors

        def scores(histories: sp.csr_array) -> Scores:
            bags = (torch.from_numpy(np.array(part, np.int64)) for part in (histories.indptr, histories.indices))
            starts, columns = (part.to(vectors.device) for part in bags)
            roots = torch.from_numpy(inverse_roots(np.diff(histories.indptr))).to(vectors.device)
            users = roots[:, None] * Bags(starts, columns, torch.ones_like(columns)).sums(scaled)
            found: Scores = (users @ wanted).float().cpu().numpy()
            return found

        return scores


def inverse_roots(counts: Any) -> Scores:
    """Return ``n^(−½)``, float32; 0 for none."""
    roots: Scores = np.where(counts > 0, 1 / np.sqrt(np.maximum(counts, 1)), 0).astype(np.float32)
    return roots
