"""Training the variational autoencoder with MARec's alignment as its second target.

The loss of a user is that of :mod:`~coldray.models.neural.vae_training`, minus ``α Σ_j f_uj log π_j(z_u)``: what the
attributes say that he would click, ``f = X g D``, counts as clicks do (Monteil et al., RecSys 2024, Eq. 6–7). A
multinomial has no counts below 0, which unconstrained weights of the mixture can give; they are taken as 0.

Notation used for shapes: U users, b of them in a batch, W warm items, J aligned ones.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from coldray.models.base import TrainingSet
from coldray.models.neural.vae_marec_network import AlignedAutoencoder, AlignedItems, VAEMARecConfig
from coldray.models.neural.vae_training import VAETask, log_likelihood
from coldray.models.neural.validation import Validation
from coldray.training.task import Batch, Loss, Step


class VAEMARecTask(VAETask):
    """The training of :class:`AlignedAutoencoder`.

    Parameters
    ----------
    config
        Of the model.
    train
        What is trained on.
    items
        The alignment of its items.
    validation
        What is validated on; None trains for all epochs.
    """

    name = "VAEMARec"
    config: VAEMARecConfig

    def __init__(
        self, config: VAEMARecConfig, train: TrainingSet, items: AlignedItems, validation: Validation | None
    ) -> None:
        self.clicks = sp.csr_array(train.interactions[:, items.warm])
        super().__init__(config, self.clicks, validation)
        self.items = items
        self.aligned = torch.from_numpy(items.places[items.aligned])

    def build(self) -> AlignedAutoencoder:
        """Return a new network."""
        clicks = np.bincount(self.clicks.indices, minlength=self.clicks.shape[1])
        return AlignedAutoencoder(clicks, self.items, self.config)

    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return the same as for clicks alone, and ``aligned`` float32 ``[b, J]``, what the attributes say."""
        clicks = self.clicks[self.users[examples].numpy()]
        target = np.maximum(clicks @ self.items.similarity, 0) * self.items.strength
        return {**super().batch(examples, generator), "aligned": torch.from_numpy(np.asarray(target, np.float32))}

    def loss(self, module: nn.Module, batch: Batch, step: Step) -> Loss:
        """Return the negative log-likelihood of clicks and aligned clicks, and the weighted divergence of each user."""
        logits, encoded = module(batch)
        shares = torch.log_softmax(logits.float(), dim=1)
        aligned = (batch["aligned"] * shares[:, self.aligned.to(shares.device)]).sum(dim=1)
        likelihoods = {
            "log-likelihood": log_likelihood(logits, batch["click_rows"], batch["clicks"]),
            "alignment": self.config.alpha * aligned,
        }
        return self.objective(likelihoods, encoded, step)
