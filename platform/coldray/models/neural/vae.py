"""VAE: a variational autoencoder of what users click, with a multinomial likelihood.

Source: Liang, Krishnan, Hoffman and Jebara, *Variational Autoencoders for Collaborative Filtering*, WWW 2018. The
network is in :mod:`~coldray.models.neural.vae_network`, the loss in :mod:`~coldray.models.neural.vae_training`.

A history is scored by the logits of the mean of its z. One without clicks on known items is scored by the biases of the
layers, which is the same list for everybody.
"""

from __future__ import annotations

from typing import ClassVar

from coldray.models.base import ModelConfig, TrainingSet
from coldray.models.neural.base import NeuralModel
from coldray.models.neural.vae_network import VAEConfig, VariationalAutoencoder, training_bytes
from coldray.models.neural.vae_training import VAETask
from coldray.models.neural.validation import Validation
from coldray.models.state import Arrays


class VAE(NeuralModel[VAEConfig]):
    """The multinomial variational autoencoder."""

    name: ClassVar[str] = "vae"
    config_type: ClassVar[type[ModelConfig]] = VAEConfig

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

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check :meth:`memory_bytes`."""
        self.require_size(
            n_users,
            n_items,
            purpose=f"VAE of {n_items:,} items with {self.config.hidden_dim:,} hidden units",
            way_out="Use a smaller batch_size or hidden_dim, or fewer items through the filters "
            "(min_item_interactions).",
        )
