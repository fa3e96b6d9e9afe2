"""LightGCN: items that the same users click drawn together along the graph of clicks.

With the clicks normalised by how many both sides have, ``R = D_u^(−½) X D_i^(−½)``, a layer goes from items to users
and back, ``E_(k+1) = Rᵀ R E_k``, and an item is the mean of its layers, ``V = Σ_k E_k / (K + 1)``. No vector of a user
has to be learnt: it is ``R_u V``, what the clicks give, so that one the fit never saw is served alike. The variant
``gcn`` has weights and a nonlinearity in each layer, ``E_(k+1) = E_k + LeakyReLU(Rᵀ R E_k W_k + b_k)``, and an item is
its last layer.

It is trained to find a click among items that the user has not clicked: by a softmax over many that all clicks of a
step share, or by pairs (BPR, Rendle et al., UAI 2009). What a click itself adds to the vector of its user is taken out
of it, or each click would be found by itself.

Source: He et al., *LightGCN: Simplifying and powering graph convolution network for recommendation*, SIGIR 2020; the
variant after Kipf and Welling, *Semi-supervised classification with graph convolutional networks*, ICLR 2017.

Notation used for shapes: b clicks of a batch, w negatives of each, m items of the softmax, U users, I items, d
dimensions, K layers, c clicks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn
from torch.nn import functional

from coldray.core.memory import require_memory
from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items, ModelConfig, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.linalg.products import click_products
from coldray.models.neural.base import HISTORY, INPUTS, Network, NeuralConfig, NeuralModel, NeuralTask
from coldray.models.neural.validation import Validation
from coldray.models.state import Arrays
from coldray.training.histories import Histories
from coldray.training.negatives import DrawnNegatives, InBatchNegatives, NegativesConfig, summed_powers
from coldray.training.options import FitOptions
from coldray.training.task import Batch, Loss, Step

_FIRST_SCALE = 0.1
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
class _Bags:
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


class _SparseProduct(torch.autograd.Function):
    """``A X`` for a constant sparse A; its transpose is given, which makes the way back as fast as the way there."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, matrix: _Bags, transposed: _Bags) -> torch.Tensor:
        """Return ``A X``."""
        ctx.transposed = transposed
        return matrix.sums(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Return ``Aᵀ G``."""
        return ctx.transposed.sums(gradients[0].contiguous()), None, None


def _graph_bytes(n_users: int, n_items: int, n_clicks: int) -> int:
    """Return what the normalised clicks and their transpose take while they are made."""
    return 2 * (16 * n_clicks + 8 * (n_users + n_items)) + 16 * n_clicks


class _PropagatedItems(Network):
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
        nn.init.normal_(self.items.weight, std=_FIRST_SCALE)
        n_weights = config.n_layers if config.kind == "gcn" else 0
        self.weights = nn.ModuleList(nn.Linear(config.embedding_dim, config.embedding_dim) for _ in range(n_weights))
        counts = np.bincount(clicks.indices, minlength=clicks.shape[1])
        scales = _inverse_roots(counts)
        lengths = np.diff(clicks.indptr)
        values = np.repeat(_inverse_roots(lengths), lengths) * scales[clicks.indices]
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
    def of_users(self) -> _Bags:
        """R ``[U, I]``."""
        return _Bags(self.starts, self.columns, self.values)

    @property
    def of_items(self) -> _Bags:
        """Rᵀ ``[I, U]``."""
        return _Bags(self.starts_of_items, self.users_of_items, self.values_of_items)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the vectors of all users, ``R V`` ``[U, d]``, and of all items, V ``[I, d]``."""
        vectors = self.vectors()
        return self.to_users(vectors), vectors

    def vectors(self) -> torch.Tensor:
        """Return V ``[I, d]``."""
        layers = [self.items.weight]
        for number in range(self.config.n_layers):
            back: torch.Tensor = _SparseProduct.apply(self.to_users(layers[-1]), self.of_items, self.of_users)  # type: ignore[no-untyped-call]
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
        product: torch.Tensor = _SparseProduct.apply(rows, self.of_users, self.of_items)  # type: ignore[no-untyped-call]
        return product

    def scorer(self, items: Items) -> Scorer:
        """Return the function from histories to inner products with `items`."""
        vectors = self.vectors()
        wanted = self.compared(vectors[torch.from_numpy(np.array(items, np.int64)).to(vectors.device)]).T  # [d, n]
        scaled = self.scales[:, None] * vectors

        def scores(histories: sp.csr_array) -> Scores:
            bags = (torch.from_numpy(np.array(part, np.int64)) for part in (histories.indptr, histories.indices))
            starts, columns = (part.to(vectors.device) for part in bags)
            roots = torch.from_numpy(_inverse_roots(np.diff(histories.indptr))).to(vectors.device)
            users = roots[:, None] * _Bags(starts, columns, torch.ones_like(columns)).sums(scaled)
            found: Scores = (users @ wanted).float().cpu().numpy()
            return found

        return scores


def _inverse_roots(counts: Any) -> Scores:
    """Return ``n^(−½)``, float32; 0 for none."""
    roots: Scores = np.where(counts > 0, 1 / np.sqrt(np.maximum(counts, 1)), 0).astype(np.float32)
    return roots


_SOFTMAX_ARRAYS = 3
"""Arrays of a number for each click of a batch and each candidate that the check of memory reckons with: logits, their
gradient, and what else is made of them meanwhile."""
_CLICKS = 200
"""Clicks of a user that the check of memory reckons with, before it is known how many there are."""


class _LightGCNTask(NeuralTask):
    """The training of propagated items.

    Parameters
    ----------
    config
        Of the network.
    train
        Clicks, along which items are mixed, and each of which is an example, unless its user clicked all items.
    validation
        What is validated on; None trains for all epochs.
    """

    name = "LightGCN"

    def __init__(self, config: LightGCNConfig, train: TrainingSet, validation: Validation | None) -> None:
        super().__init__(validation)
        self.config, self.clicks = config, train.interactions
        self.histories = Histories.of(self.clicks)
        wanted = NegativesConfig(kind=config.negatives_kind, count=config.negatives)
        softmax = config.loss == "softmax"
        self.rivals = InBatchNegatives(self.clicks) if softmax else None
        self.negatives = None if softmax else DrawnNegatives(wanted, self.clicks, items=train.warm_items)
        possible = (self.rivals or self.negatives).possible  # type: ignore[union-attr]  # one of them is made
        users = self.histories.users
        self.places = torch.nonzero(possible[users])[:, 0]
        self.users = users[self.places]
        self.counts = torch.bincount(self.histories.items, minlength=self.histories.n_items)

    @property
    def n_examples(self) -> int:
        """Number of clicks that something can be told from."""
        return len(self.places)

    def build(self) -> _PropagatedItems:
        """Return a new network."""
        return _PropagatedItems(self.config, self.clicks)

    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return clicks and the items that they are to be told from.

        Returns
        -------
        Batch
            ``users`` and ``items`` int64 ``[b]``, ``weights`` float32 ``[b]``, what each click has in R,
            ``has_others`` bool ``[b]``, whether its user has another; and
            ``negatives``, int64 ``[b, w]`` of BPR, or ``candidates`` int64 ``[m]`` of the softmax, the same for all
            workers.
        """
        users, items = self.users[examples], self.histories.items[self.places[examples]]
        lengths = self.histories.starts[users + 1] - self.histories.starts[users]
        batch = {
            "users": users,
            "items": items,
            "weights": (lengths * self.counts[items]).float().rsqrt(),
            "has_others": lengths > 1,
        }
        if self.negatives is not None:
            return {**batch, "negatives": self.negatives.candidates(users, generator, rows=examples)}
        n_items = self.histories.n_items
        drawn = torch.randperm(n_items, generator=generator) if n_items > self.config.candidates else None
        every = torch.arange(n_items) if drawn is None else drawn[: self.config.candidates]
        return {**batch, "candidates": every}

    def loss(self, module: nn.Module, batch: Batch, step: Step) -> Loss:
        """Return how far each click is above what it is to be told from, on a log scale."""
        of_users, of_items = module(batch)  # [U, d], [I, d]
        found = of_items[batch["items"]]  # [b, d]
        # Of a user of one click rounding would be left, of any direction.
        users = of_users[batch["users"]] - batch["weights"][:, None] * found
        users = torch.where(batch["has_others"][:, None], users, 0)
        if self.negatives is None:
            return self._softmax(users, found, of_items, batch)
        scores = torch.einsum("bd,bwd->bw", users, of_items[batch["negatives"]])
        kept = self.negatives.kept(batch["negatives"], scores, step.progress, step.first)
        margins = (users * found).sum(dim=1, keepdim=True) - scores.gather(1, kept)
        return Loss(functional.softplus(-margins).mean(dim=1))

    def _softmax(self, users: torch.Tensor, found: torch.Tensor, of_items: torch.Tensor, batch: Batch) -> Loss:
        """Return the cross-entropy of each click among the candidates that its user has not clicked."""
        if self.rivals is None:  # pragma: no cover  the constructor makes it for this loss
            raise TypeError("There is no softmax.")
        candidates, temperature = batch["candidates"], self.config.temperature
        users, found = functional.normalize(users.float(), dim=1), functional.normalize(found.float(), dim=1)
        rivals = functional.normalize(of_items[candidates].float(), dim=1)  # [m, d]
        own = (users * found).sum(dim=1) / temperature  # [b]
        logits = ((users / temperature) @ rivals.T).float()  # [b, m]
        with torch.no_grad():
            logits[self.rivals.positives(batch["users"], candidates)] = -torch.inf
        others, highest = summed_powers(logits, own)
        # Each of those drawn stands for as many of all.
        others = others * (self.histories.n_items / len(candidates))
        return Loss((others + (own - highest).exp()).log() + highest - own)


class LightGCN(NeuralModel[LightGCNConfig]):
    """Inner products of what a user's clicks give and of items, both mixed along the clicks of all users.

    After a softmax items have the length 1 in them: cosines, but for the length of the user.

    Only the mixed vectors are kept: neither the graph nor the users are needed to serve.
    """

    name: ClassVar[str] = "lightgcn"
    config_type: ClassVar[type[ModelConfig]] = LightGCNConfig

    def inputs(self, train: TrainingSet) -> Arrays:
        """Return the clicks along which items are mixed."""
        clicks = train.interactions
        return {"starts": clicks.indptr, "items": clicks.indices, "size": np.array(clicks.shape)}

    def network(self, inputs: Arrays, n_items: int) -> _PropagatedItems:
        """Return a new network."""
        ones = np.ones(len(inputs["items"]), np.float32)
        shape = tuple(map(int, inputs["size"]))
        return _PropagatedItems(self.config, sp.csr_array((ones, inputs["items"], inputs["starts"]), shape=shape))

    def task(self, train: TrainingSet, inputs: Arrays, validation: Validation | None) -> _LightGCNTask:
        """Return the training on `train`."""
        return _LightGCNTask(self.config, train, validation)

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Train the vectors of items, and mix them.

        Raises
        ------
        DataError
            If there is no click, or a user has clicked all there is.
        CatalogTooLargeError
            If the graph or the training does not fit in memory.
        DivergedError
            If the loss is not finite any more.
        """
        (n_users, n_items), n_clicks = train.interactions.shape, train.interactions.nnz
        require_memory(
            _graph_bytes(n_users, n_items, n_clicks),
            purpose=f"The graph of {n_clicks:,} clicks",
            way_out="Use fewer users or items through the filters, or a machine with more memory.",
        )
        super().fit(train, computations, options)
        with torch.no_grad():
            vectors = self.fitted_network.vectors().numpy()
        counts = np.bincount(self._state[f"{INPUTS}items"], minlength=len(vectors))
        course = {name: value for name, value in self._state.items() if name.startswith(HISTORY)}
        self._state = {"clicks": self._state["clicks"], "vectors": vectors, "scales": _inverse_roots(counts), **course}
        self._network = None
        return self

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what the graph, the layers with their gradients, weights with their moments, and a batch take."""
        config, clicks = self.config, n_users * min(_CLICKS, n_items)
        layers = 4 * config.embedding_dim * (2 * (config.n_layers + 1) * (n_users + n_items) + 5 * n_items)
        rows = min(config.batch_size, clicks)
        if config.loss == "softmax":
            batch = rows * (4 * _SOFTMAX_ARRAYS * min(config.candidates, n_items) + 4 * 8 * config.embedding_dim)
        else:
            drawn = 8 if config.negatives_kind != "hard" else 8 + 4 * NegativesConfig().pool
            batch = 4 * rows * config.embedding_dim * 3 * (drawn + config.negatives)
        return _graph_bytes(n_users, n_items, clicks) + 40 * clicks + layers + batch

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check :meth:`memory_bytes`."""
        self.require_size(
            n_users,
            n_items,
            purpose=f"The graph of {n_users:,} users and {n_items:,} items",
            way_out="Use a smaller embedding_dim, n_layers or batch_size, or fewer users or items through the filters.",
        )

    @property
    def fitted_network(self) -> _PropagatedItems:
        """The trained network, while the model is fitted."""
        network = super().fitted_network
        if not isinstance(network, _PropagatedItems):  # pragma: no cover  network() makes no other
            raise TypeError("This is no graph of items.")
        return network

    def item_vectors(self, items: Items) -> Scores:
        """Return the vectors of items, float32 ``[n, d]``: scores are their inner products with those of users."""
        self.check_fitted()
        vectors: Scores = self._state["vectors"][items]
        if self.config.loss == "softmax":  # as _PropagatedItems.compared
            lengths: Scores = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
            return vectors / lengths
        return vectors

    def user_vectors(self, histories: sp.csr_array) -> Scores:
        """Return what the clicks of users give, float32 ``[b, d]``."""
        self.check_fitted()
        scaled = self._state["scales"][:, None] * self._state["vectors"]
        return _inverse_roots(np.diff(histories.indptr))[:, None] * click_products(histories, scaled)

    def scorer(self, items: Items) -> Scorer:
        """Return the function from histories to inner products with `items`."""
        wanted = np.ascontiguousarray(self.item_vectors(items).T)

        def scores(histories: sp.csr_array) -> Scores:
            return self.user_vectors(histories) @ wanted

        return scores
