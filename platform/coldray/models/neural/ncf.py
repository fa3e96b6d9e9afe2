"""NCF: neural collaborative filtering, of which NeuMF joins a factorisation and layers.

Source: He et al., *Neural Collaborative Filtering*, WWW 2017. The networks are in
:mod:`~coldray.models.neural.ncf_network`, the loss in :mod:`~coldray.models.neural.ncf_training`.

There a user is a row of a table. Here he is his history: the sum of the embeddings of his clicks, as in Kabbur, Ning
and Karypis (FISM), KDD 2013, so that one the fit never saw is served like all others. In training a click is left out
of the history that it is predicted from.
"""

from __future__ import annotations

from typing import ClassVar

from coldray.models.base import ModelConfig, TrainingSet
from coldray.models.neural.base import NeuralModel
from coldray.models.neural.ncf_network import NCFConfig, NCFNetwork, training_bytes
from coldray.models.neural.ncf_training import NCFTask
from coldray.models.neural.validation import Validation
from coldray.models.state import Arrays


class NCF(NeuralModel[NCFConfig]):
    """NeuMF, or one of its two towers."""

    name: ClassVar[str] = "ncf"
    config_type: ClassVar[type[ModelConfig]] = NCFConfig

    def inputs(self, train: TrainingSet) -> Arrays:
        """Return the clicks of each item."""
        return {"clicks": train.clicks}

    def network(self, inputs: Arrays, n_items: int) -> NCFNetwork:
        """Return a new network."""
        return NCFNetwork(inputs["clicks"], self.config)

    def task(self, train: TrainingSet, inputs: Arrays, validation: Validation | None) -> NCFTask:
        """Return the training on `train`."""
        return NCFTask(self.config, train, validation)

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what a training takes."""
        return training_bytes(n_items, self.config)

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check :meth:`memory_bytes`."""
        self.require_size(
            n_users,
            n_items,
            purpose=f"NCF of {n_items:,} items",
            way_out="Use smaller embedding_dim, mlp_dim or batch_size, or fewer items through the filters "
            "(min_item_interactions).",
        )
