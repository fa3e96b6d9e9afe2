"""Training the variational autoencoder of clicks.

The loss of a user is ``−Σ_i x_ui log π_i(z_u) + β KL(q(z_u | x_u) ‖ N(0, I))``, with π the softmax over all items and β
growing from 0 to its cap (Liang et al., *Variational Autoencoders for Collaborative Filtering*, WWW 2018, Eq. 3, 5).

Notation used for shapes: U users, b of them in a batch, I items, c clicks of a batch, k dimensions of z.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from coldray.models.neural.base import NeuralTask
from coldray.models.neural.vae_network import Encoded, VAEConfig, VariationalAutoencoder
from coldray.models.neural.validation import Validation
from coldray.models.transfer.gerec import kl_divergence
from coldray.training.histories import Histories
from coldray.training.task import Batch, Loss, Step


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

    @property
    def n_examples(self) -> int:
        """Number of users with clicks."""
        return len(self.users)

    def build(self) -> VariationalAutoencoder:
        """Return a new network."""
        clicks = torch.bincount(self.histories.items, minlength=self.histories.n_items)
        return VariationalAutoencoder(clicks.numpy(), self.config)

    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return the histories of users, as of :func:`masked_histories`."""
        return masked_histories(self.histories, self.users[examples], self.config.dropout, generator, rows=examples)

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


def masked_histories(
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
