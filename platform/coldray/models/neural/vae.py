"""VAE: a variational autoencoder of what users click, with a multinomial likelihood.

Source: Liang, Krishnan, Hoffman and Jebara, *Variational Autoencoders for Collaborative Filtering*, WWW 2018. The loss
of a user is ``−Σ_i x_ui log π_i(z_u) + β KL(q(z_u | x_u) ‖ N(0, I))``, with π the softmax over all items and β growing
from 0 to its cap (Eq. 3, 5).

A history is scored by the logits of the mean of its z. One without clicks on known items is scored by the biases of the
layers, which is the same list for everybody.

Notation used for shapes: U users, b of them in a batch, I items, h hidden units, k dimensions of z, n items asked for,
c clicks of a batch.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import nn
from torch.nn import functional

from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items, ModelConfig, TrainingSet
from coldray.models.neural.base import Network, NeuralConfig, NeuralModel, NeuralTask
from coldray.models.neural.validation import Validation
from coldray.models.state import Arrays
from coldray.models.transfer.gerec import kl_divergence
from coldray.training.histories import Histories
from coldray.training.row_random import RowNormal
from coldray.training.task import Batch, Loss, Step

_LOG_VARIANCE = 8.0
"""log σ² of z is kept within ± this."""
COPIES = 5
"""Arrays of the size of the weights while these are trained: themselves, the best so far, gradients, two averages."""
_ACTIVATIONS = 5
"""Arrays of a number for each user and item of a batch: logits, log-probabilities, the loss, and gradients of those."""


class VAEConfig(NeuralConfig):
    """Parameters of :class:`~coldray.models.neural.vae.VAE`; some of those of the training have other defaults here."""

    latent_dim: PositiveInt = 200
    """k, dimensions of z."""
    n_layers: NonNegativeInt = 0
    """Hidden layers before z, and as many after it. A few thousand users are served best by z alone."""
    hidden_dim: PositiveInt = 600
    """h, units of a hidden layer."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of a user's clicks that the encoder is not shown; all of them are to be found."""
    kl_cap: NonNegativeFloat = 0.4
    """β, the weight of the divergence of z from N(0, I) beside the log-likelihood of all clicks, once it is warm. Below
    1 lists are better, as the paper says."""
    kl_warmup: NonNegativeFloat = 20.0
    """Epochs over which that weight rises from 0."""
    learning_rate: PositiveFloat = 3e-3
    batch_size: PositiveInt = 200
    """Users of a step over all workers together; all of them where there are fewer."""
    patience: PositiveInt | None = 8


class Encoded(NamedTuple):
    """The distribution of z for each user."""

    mean: torch.Tensor
    """``[b, k]``."""
    log_variance: torch.Tensor
    """``[b, k]``."""


class _Encoder(nn.Module):
    """From clicks to z. The first layer is an embedding bag, which is a linear layer for sparse rows.

    Parameters
    ----------
    n_items
        I.
    config
        Sizes of the layers.
    """

    def __init__(self, n_items: int, config: VAEConfig) -> None:
        super().__init__()
        width, out = _layer_sizes(config)
        self.first = nn.EmbeddingBag(n_items, width, mode="sum")
        nn.init.xavier_uniform_(self.first.weight)
        self.bias = nn.Parameter(torch.zeros(width))
        layers: list[nn.Module] = []
        for after in out:
            layers += [nn.Tanh(), nn.Linear(width, after)]
            width = after
        self.rest = nn.Sequential(*layers)

    def forward(self, batch: Batch) -> Encoded:
        """Return the distribution of z for the rows of ``history``, each of length 1."""
        rows = self.first(batch["history"], batch["history_offsets"], per_sample_weights=batch["history_values"])
        mean, log_variance = self.rest(rows + self.bias).chunk(2, dim=1)
        return Encoded(mean, log_variance.clamp(-_LOG_VARIANCE, _LOG_VARIANCE))


class VariationalAutoencoder(Network):
    """Encoder and decoder, whose last layer has a row for each item.

    Parameters
    ----------
    clicks
        Clicks of each item ``[I]``. The logits begin with their logarithms, which saves the epochs in which a network
        learns what is popular. A history is read as if it had no items without any, of which nothing was learnt.
    config
        Sizes of the layers.
    """

    def __init__(self, clicks: npt.NDArray[np.integer[Any]], config: VAEConfig) -> None:
        super().__init__()
        n_items = len(clicks)
        self.encoder, self.noise = _Encoder(n_items, config), RowNormal()
        width = config.latent_dim
        layers: list[nn.Module] = []
        for _ in range(config.n_layers):
            layers += [nn.Linear(width, config.hidden_dim), nn.Tanh()]
            width = config.hidden_dim
        self.decoder = nn.Sequential(*layers)
        self.items = nn.Linear(width, n_items)
        nn.init.xavier_uniform_(self.items.weight)
        self.items.bias.data = torch.from_numpy(np.log((clicks + 1) / (clicks.sum() + n_items))).float()
        self.known = (clicks > 0).astype(np.float32)

    def sample(self, batch: Batch) -> tuple[torch.Tensor, Encoded]:
        """Return hidden units ``[b, h]`` of z drawn once for each user, and what it is drawn from."""
        encoded = self.encoder(batch)
        z = encoded.mean + self.noise(encoded.mean) * torch.exp(encoded.log_variance / 2)
        return self.decoder(z), encoded

    def forward(self, batch: Batch) -> tuple[torch.Tensor, Encoded]:
        """Return logits ``[b, I]`` of z drawn once for each user, and what it is drawn from."""
        hidden, encoded = self.sample(batch)
        return self.items(hidden), encoded

    def hidden(self, histories: sp.csr_array) -> torch.Tensor:
        """Return the hidden units ``[b, h]`` of the mean of z."""
        where = self.items.weight.device
        batch = {name: value.to(where) for name, value in _unit_bags(histories, self.known).items()}
        hidden: torch.Tensor = self.decoder(self.encoder(batch).mean)
        return hidden

    def scorer(self, items: Items) -> Scorer:
        """Return the function from histories to the logits of items."""
        rows = torch.from_numpy(np.array(items, np.int64)).to(self.items.weight.device)
        weight, bias = self.items.weight[rows], self.items.bias[rows]  # [n, h], [n]

        def scores(histories: sp.csr_array) -> npt.NDArray[np.float32]:
            return functional.linear(self.hidden(histories), weight, bias).float().cpu().numpy()

        return scores


def _layer_sizes(config: VAEConfig) -> tuple[int, list[int]]:
    """Return the width of the first layer of the encoder, and of those that follow; the last holds both parts of z."""
    sizes = [*[config.hidden_dim] * config.n_layers, 2 * config.latent_dim]
    return sizes[0], sizes[1:]


def last_width(config: VAEConfig) -> int:
    """Return how many units the last layer reads."""
    return config.hidden_dim if config.n_layers else config.latent_dim


def _unit_bags(histories: sp.csr_array, known: npt.NDArray[np.float32]) -> Batch:
    """Return histories, scaled to unit length over the known items, as the encoder reads them."""
    rows = np.repeat(np.arange(histories.shape[0]), np.diff(histories.indptr))
    values = histories.data * known[histories.indices]
    norms = np.sqrt(np.bincount(rows, values**2, minlength=histories.shape[0]))
    return {
        "history": torch.from_numpy(histories.indices.astype(np.int64)),
        "history_offsets": torch.from_numpy(histories.indptr[:-1].astype(np.int64)),
        "history_values": torch.from_numpy((values / np.where(norms > 0, norms, 1)[rows]).astype(np.float32)),
    }


def weight_bytes(n_items: int, config: VAEConfig) -> int:
    """Return what the weights take: rows of items in the first and in the last layer, and those between."""
    width, _ = _layer_sizes(config)
    last = last_width(config)
    inner = config.n_layers * (config.hidden_dim + 1) * (2 * config.hidden_dim + 3 * config.latent_dim)
    return 4 * (n_items * (width + last + 1) + width + inner)


def training_bytes(n_users: int, n_items: int, config: VAEConfig) -> int:
    """Return what a training holds at its peak: weights and what Adam keeps of them, and a batch."""
    batch = min(config.batch_size, n_users)
    return COPIES * weight_bytes(n_items, config) + 4 * _ACTIVATIONS * batch * n_items


class VAETask(NeuralTask):
    """The training of :class:`VariationalAutoencoder`; an example is a user.

    Parameters
    ----------
    config
        Of the model.
    interactions
        Clicks ``[U, I]``.
    validation
        What is validated on; None trains for all epochs.
    """

    name = "VAE"

    def __init__(self, config: VAEConfig, interactions: sp.csr_array, validation: Validation | None) -> None:
        super().__init__(validation)
        self.config, self.histories = config, Histories.of(interactions)
        self.users = torch.from_numpy(np.flatnonzero(np.diff(interactions.indptr)))

    def build(self) -> VariationalAutoencoder:
        """Return a new network."""
        clicks = torch.bincount(self.histories.items, minlength=self.histories.n_items)
        return VariationalAutoencoder(clicks.numpy(), self.config)

    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return the histories of users, as of :func:`_masked_histories`."""
        return _masked_histories(self.histories, self.users[examples], self.config.dropout, generator, rows=examples)

    def loss(self, module: nn.Module, batch: Batch, step: Step) -> Loss:
        """Return the negative log-likelihood of the clicks and the weighted divergence of each user."""
        logits, encoded = module(batch)
        likelihood = log_likelihood(logits, batch["click_rows"], batch["clicks"])
        return self.objective({"log-likelihood": likelihood}, encoded, step)

    def objective(self, likelihoods: dict[str, torch.Tensor], encoded: Encoded, step: Step) -> Loss:
        """Return the negative sum of log-likelihoods ``[b]``, and β times the divergence."""
        divergence = kl_divergence(encoded.mean.float(), encoded.log_variance.float())
        warmth = 1.0 if self.config.kl_warmup == 0 else min(step.progress / self.config.kl_warmup, 1.0)
        loss = self.config.kl_cap * warmth * divergence
        for likelihood in likelihoods.values():
            loss = loss - likelihood
        parts = {**likelihoods, "KL": divergence}
        return Loss(loss, {name: part.detach() for name, part in parts.items()})


def _masked_histories(
    histories: Histories,
    users: torch.Tensor,
    dropout: float,
    generator: torch.Generator,
    *,
    rows: torch.Tensor,
) -> Batch:
    """Return the histories of users, some clicks left out and the others scaled up for these, and all clicks.

    `rows` ``[b]`` tells them from those of other workers.

    Returns
    -------
    Batch
        ``history``, ``history_offsets`` and ``history_values`` as the encoder reads them; ``clicks`` int64 ``[c]``
        and ``click_rows`` int64 ``[c]``, the items of all clicks and the row of each.
    """
    shown, every = histories.bags(users, hidden=dropout, generator=generator, rows=rows), histories.bags(users)
    lengths, counts = (
        torch.diff(bags["history_offsets"], append=torch.tensor([len(bags["history"])])) for bags in (shown, every)
    )
    click_rows = torch.arange(len(users)).repeat_interleave(counts)
    norms = torch.zeros(len(users)).index_add(0, click_rows, every["history_values"] ** 2).sqrt()
    scale = 1 / (norms * (1 - dropout))
    return {
        **shown,
        "history_values": shown["history_values"] * scale.repeat_interleave(lengths),
        "clicks": every["history"],
        "click_rows": click_rows,
    }


def log_likelihood(logits: torch.Tensor, rows: torch.Tensor, clicks: torch.Tensor) -> torch.Tensor:
    """Return ``Σ_i x_ui log softmax(logits)_i`` of each user ``[b]``.

    Parameters
    ----------
    logits
        ``[b, I]``.
    rows, clicks
        Row and item of each click ``[c]``.
    """
    log_probabilities = torch.log_softmax(logits.float(), dim=1)
    return torch.zeros_like(log_probabilities[:, 0]).index_add(0, rows, log_probabilities[rows, clicks])


class VAE(NeuralModel[VAEConfig]):
    """The multinomial variational autoencoder."""

    name: ClassVar[str] = "vae"
    config_type: ClassVar[type[ModelConfig]] = VAEConfig
    way_out: ClassVar[str] = (
        "Use a smaller batch_size or hidden_dim, or fewer items through the filters (min_item_interactions)."
    )

    def inputs(self, train: TrainingSet) -> Arrays:
        """Return the clicks of each item."""
        return {"clicks": train.clicks}

    def network(self, inputs: Arrays, n_items: int) -> VariationalAutoencoder:
        """Return a new network."""
        return VariationalAutoencoder(inputs["clicks"], self.config)

    def task(self, train: TrainingSet, inputs: Arrays, validation: Validation | None) -> VAETask:
        """Return the training on `train`."""
        return VAETask(self.config, train.interactions, validation)

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what a training takes."""
        return training_bytes(n_users, n_items, self.config)
