"""TextGraph: what an item is told by its texts, and by a graph of items and their attributes.

A user is what attention takes from the items of a history, in each view. Learned gates make the views one; a user
attends to the two views of an item, and a network scores their Hadamard product. Items have no vectors of their own:
one without a click is scored like all others.

In training some clicks of a user are predicted from the others. What could not be read of the items is counted and
told.

Sources: BPR, Rendle et al., UAI 2009; InfoNCE, van den Oord et al., *Representation Learning with Contrastive
Predictive Coding*, 2018.

Notation used for shapes: U users, I items, d dimensions, b examples of a batch, B of all workers, t clicks to be
predicted at most, w items drawn, c negatives.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import nn
from torch.nn import functional

from coldray.core.errors import ConfigError
from coldray.core.memory import require_memory
from coldray.core.spelling import choices, nearest
from coldray.data.signals import Reads, places_in, ratings_in
from coldray.features.builder import AttributeKind
from coldray.features.feature_set import FeatureSet, ScalarFeature
from coldray.models.base import ModelConfig, TrainingSet
from coldray.models.computations import Computations
from coldray.models.forms import Form, StudyOutlook, form_as_named, form_by_memory
from coldray.models.neural.base import INPUTS, NeuralModel, NeuralTask
from coldray.models.neural.text_graph.config import MOST_TEXTS, TextGraphConfig
from coldray.models.neural.text_graph.fusion import PAIRS_PER_BLOCK
from coldray.models.neural.text_graph.graph import ItemGraph, NeighbourSampler, is_label
from coldray.models.neural.text_graph.network import GRAPH, RATINGS, TEXT, TextGraphNetwork
from coldray.models.neural.text_graph.texts import (
    STEP_VECTORS,
    attributes_read,
    has_embeddings,
    new_text_arrays,
    step_bytes,
    text_arrays,
    without_text,
)
from coldray.models.neural.validation import Validation
from coldray.models.state import Arrays
from coldray.models.transfer.similarity import arrays_under
from coldray.training.histories import Histories
from coldray.training.negatives import DrawnNegatives, NegativesConfig
from coldray.training.options import FitOptions
from coldray.training.task import Batch, Loss, Step


def _left_out(features: FeatureSet, inputs: Arrays) -> list[str]:
    """Return a sentence for each kind of gap.

    Parameters
    ----------
    features
        What is known of the items.
    inputs
        What the network is built of.
    """
    texts, graph = arrays_under(TEXT, inputs), ItemGraph.from_arrays(arrays_under(GRAPH, inputs))
    read = {*attributes_read(texts), *graph.kept, *graph.bounds}
    unread = [name for name in features.features if name not in read]
    empty = [name for name in unread if is_label(features.features[name])]
    rest = [name for name in unread if name not in empty]
    lines = [*_text_gaps(texts, graph.n_items)]
    if empty:
        lines.append(f"No label of {choices(empty)} is on two items with clicks: these attributes are not used.")
    if graph.unconnected:
        lines.append(f"{graph.unconnected:,} of {graph.n_items:,} items have no label in the graph.")
    if rest:
        lines.append(f"Neither view reads {choices(rest)}; known_before_release may name numbers.")
    return lines


def _text_gaps(texts: Arrays, n_items: int) -> list[str]:
    no_overview, nothing = without_text(texts)
    if not has_embeddings(texts):
        read = choices(attributes_read(texts))
        return [
            f"No text is embedded, so the text view reads {read}; {nothing:,} of {n_items:,} items have none of these."
        ]
    if not no_overview:
        return []
    return [
        f"{no_overview:,} of {n_items:,} items have no overview; {nothing:,} have no text at all, and are alike in the "
        "text view."
    ]


_LARGEST_SHARE = 4
"""At most one click in so many is predicted, so that a history is left."""


class _TextGraphTask(NeuralTask):
    """The training of :class:`TextGraphNetwork`.

    An example is a user with some clicks that are drawn to be predicted. A user has as many examples as it takes to
    draw each click once in an epoch, on average.

    Parameters
    ----------
    config
        Of the model.
    train
        What is trained on.
    inputs
        What the network is built of.
    validation
        What is validated on; None trains for all epochs.
    neighbours
        Neighbours sampled for each node of the graph; None goes over the whole graph.
    """

    name = "TextGraph"

    def __init__(
        self,
        config: TextGraphConfig,
        train: TrainingSet,
        inputs: Arrays,
        validation: Validation | None,
        neighbours: int | None,
    ) -> None:
        super().__init__(validation)
        self.config, self.inputs = config, inputs
        self.histories = Histories.of(train.interactions)
        negatives = NegativesConfig(kind=config.negatives_kind, count=config.negatives, pool=2 * config.negatives)
        self.negatives = DrawnNegatives(negatives, train.interactions, items=train.warm_items)
        counts = np.where(self.negatives.possible.numpy(), np.diff(train.interactions.indptr), 0)
        predicted = np.clip(-(-counts // _LARGEST_SHARE), 1, config.targets)
        self.predicted = torch.from_numpy(predicted.astype(np.int64))
        self.users = torch.from_numpy(np.repeat(np.arange(len(counts)), -(-counts // predicted)))
        self.mean_predicted = float(self.predicted[self.users].double().mean())
        graph = ItemGraph.from_arrays(arrays_under(GRAPH, inputs))
        self.sampler = None if neighbours is None else NeighbourSampler(graph, neighbours)

    def build(self) -> TextGraphNetwork:
        """Return a new network."""
        return TextGraphNetwork(self.config, self.inputs)

    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return histories without what is to be predicted or masked, these clicks, and negatives.

        Returns
        -------
        Batch
            ``history``, ``history_offsets`` and ``history_values`` as :meth:`Histories.bags` returns them; ``items``
            int64 ``[b, t + w]``, the clicks to be predicted, any item where there are fewer, then the negatives;
            ``is_target`` bool ``[b, t]``; ``users`` int64 ``[b]``. With a sampler, the part of the graph, in which
            items are numbered.
        """
        users = self.users[examples]
        predicted, hidden = self.predicted[users], self.config.hidden_share
        parts = self.histories.parted(users, predicted, hidden=hidden, generator=generator, rows=examples)
        drawn = self.negatives.candidates(users, generator, rows=examples)
        items = torch.cat([parts["targets"], drawn], dim=1)
        batch = {**{name: parts[name] for name in parts if name != "targets"}, "items": items, "users": users}
        if self.sampler is None:
            return batch
        asked = torch.unique(torch.cat([items.flatten(), batch["history"]]))
        numbered = {name: torch.searchsorted(asked, batch[name]) for name in ("items", "history")}
        return {**batch, **numbered, **self.sampler.part(asked, generator)}

    def loss(self, module: nn.Module, batch: Batch, step: Step) -> Loss:
        """Return the BPR of the clicks of each example, and its InfoNCE.

        Every click weighs the same: an example of more clicks weighs more.
        """
        outputs = module(batch)
        is_target = batch["is_target"]
        positive, drawn = outputs.scores.split([is_target.shape[1], self.negatives.width], dim=1)
        columns = self.negatives.kept(batch["items"][:, is_target.shape[1] :], drawn, step.progress, step.first)
        margins = positive[:, :, None] - drawn.gather(1, columns)[:, None, :]  # [b, t, c]
        ranking = (functional.softplus(-margins).mean(dim=2) * is_target).sum(dim=1) / self.mean_predicted
        parts = {"bpr": ranking.detach()}
        if self.config.contrast_weight == 0:
            return Loss(ranking, parts)
        contrast = self._contrast(outputs.text, outputs.graph, batch, step)
        parts["info_nce"] = contrast.detach()
        return Loss(ranking + self.config.contrast_weight * contrast, parts)

    def _contrast(self, text: torch.Tensor, graph: torch.Tensor, batch: Batch, step: Step) -> torch.Tensor:
        """Return the InfoNCE of each example, both ways, among the users of all workers ``[b]``.

        The same user in another example is no negative, and one without a history says nothing.
        """
        text, graph = functional.normalize(text.float(), dim=1), functional.normalize(graph.float(), dim=1)
        texts, first = step.workers.gather(text)  # [B, d]
        graphs, _ = step.workers.gather(graph)
        lengths = torch.diff(
            batch["history_offsets"], append=batch["history_offsets"].new_tensor([len(batch["history"])])
        )
        users, _ = step.workers.gather(torch.where(lengths > 0, batch["users"], -1))
        own = torch.arange(first, first + len(text), device=text.device)
        others = (users[None, :] != batch["users"][:, None]) & (users[None, :] >= 0)
        others[torch.arange(len(own)), own] = True
        total = text.new_zeros(len(text))
        for left, right in ((text, graphs), (graph, texts)):
            logits = (left @ right.T / self.config.temperature).masked_fill(~others, -torch.inf)
            total = total + functional.cross_entropy(logits, own, reduction="none")
        return total / 2 * (lengths > 0)


logger = logging.getLogger(__name__)

_SAMPLED = 16
"""Neighbours sampled of a node where the configuration names no number."""
_MOST_LEVELS = 16
"""Levels of ratings that are told apart; finer ones are put together."""
LABELS, HISTORY, TEXT_DIM = 32, 200, 384
"""What the check of memory reckons with: labels of an item, clicks of a user, dimensions of a text embedding."""
NODE_VECTORS, EDGE_VECTORS, PAIR_VECTORS = 24, 3, 16
"""Vectors of d that a step keeps for the way back: of a node, of an edge, of a pair of a user and an item."""


class TextGraph(NeuralModel[TextGraphConfig]):
    """Two views of items and users, fused."""

    name: ClassVar[str] = "text_graph"
    config_type: ClassVar[type[ModelConfig]] = TextGraphConfig
    way_out: ClassVar[str] = (
        "Use a smaller batch_size, head_dim or neighbours, fewer items through the filters "
        "(min_item_interactions), or more memory."
    )
    scores_cold_items: ClassVar[bool] = True

    @property
    def reads(self) -> Reads:
        """Ratings and the order of clicks, each if it is asked for."""
        return Reads(ratings=self.config.rating_embedding, order=self.config.time_buckets > 0)

    @property
    def click_value(self) -> float:
        """Not a number where ratings are read: a click of unknown rating is told by its item alone."""
        return float("nan") if self.config.rating_embedding else 1.0

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Train the network, and tell what the views could not read.

        Raises
        ------
        ConfigError
            If the configuration does not go with the attributes, or asks for places of clicks, which there are not.
        DataError
            If nothing can be learnt from the training set.
        CatalogTooLargeError
            If the training does not fit in memory.
        DivergedError
            If the loss is not finite any more.
        """
        self._check(
            train.features.features,
            [name for name, feature in train.features.features.items() if isinstance(feature, ScalarFeature)],
        )
        if self.config.time_buckets and not _has_places(train.interactions):
            raise ConfigError(
                f"time_buckets is {self.config.time_buckets}, but the clicks of {train.key} come without their places "
                "in time. Use time_buckets=0."
            )
        self.settle_on(train, options)
        super().fit(train, computations, options)
        for line in _left_out(train.features, arrays_under(INPUTS, self._state)):
            logger.warning("%s on %s: %s", self.name, train.key, line)
        return self

    def inputs(self, train: TrainingSet) -> Arrays:
        """Return what the two views read, and the levels of ratings.

        Raises
        ------
        ConfigError
            If text embeddings have another width than asked for.
        DataError
            If no text is embedded, and no attribute tells the warm items apart.
        CatalogTooLargeError
            If the embeddings do not fit in memory.
        """
        config = self.config
        known = TrainingSet(train.interactions, self._known(train.features), train.key)
        texts = text_arrays(known, overview=config.overview, most=MOST_TEXTS, text_dim=config.text_dim)
        graph = ItemGraph.of(known, context=config.context, n_buckets=config.buckets)
        return {
            **{TEXT + name: values for name, values in texts.items()},
            **{GRAPH + name: values for name, values in graph.arrays().items()},
            RATINGS: _levels(train) if config.rating_embedding else np.zeros(0, np.float32),
        }

    def stops_by_items(self, train: TrainingSet) -> bool:
        """Tell whether whole items are held out to stop by."""
        return self.config.stop_by == "items"

    def network(self, inputs: Arrays, n_items: int) -> TextGraphNetwork:
        """Return a new network."""
        return TextGraphNetwork(self.config, inputs)

    def task(self, train: TrainingSet, inputs: Arrays, validation: Validation | None) -> _TextGraphTask:
        """Return the training on `train`, over the whole graph or on samples of it, as settled.

        Raises
        ------
        CatalogTooLargeError
            If the step over the whole graph does not fit in memory.
        """
        if self._samples:
            return _TextGraphTask(self.config, train, inputs, validation, self.config.neighbours or _SAMPLED)
        graph = ItemGraph.from_arrays(arrays_under(GRAPH, inputs))
        require_memory(
            _graph_bytes(self.config.dim, graph.n_nodes, graph.n_edges) + step_bytes(arrays_under(TEXT, inputs)),
            purpose=f"A step over the whole graph of {graph.n_items:,} items and {graph.n_edges:,} edges",
            way_out="Use graph='sampled', a smaller head_dim, or fewer items through the filters.",
        )
        return _TextGraphTask(self.config, train, inputs, validation, None)

    @property
    def _samples(self) -> bool:
        config = self.config
        return config.graph == "sampled" or (config.graph == "auto" and config.neighbours is not None)

    @classmethod
    def settle(cls, config: TextGraphConfig, outlook: StudyOutlook) -> tuple[TextGraphConfig, tuple[Form, ...]]:
        """Name the form: over the whole graph where a step of the largest fit over it fits in memory."""
        n_items = outlook.n_items
        if config.graph != "auto":
            form = form_as_named("graph", config.graph, exact=config.graph == "whole")
        elif config.neighbours is not None:
            form = Form("graph", "sampled", False, f"neighbours={config.neighbours} are named in the configuration.")
        else:
            labels = LABELS * n_items if outlook.labels is None else outlook.labels
            kinds = labels // 2 if outlook.labels is None else outlook.label_kinds
            whole = _graph_bytes(config.dim, n_items + kinds, labels) + 4 * STEP_VECTORS * TEXT_DIM * n_items
            form = form_by_memory(
                "graph",
                "whole",
                "sampled",
                need=whole,
                other_need=cls(config).memory_bytes(outlook.n_users, n_items),
                outlook=outlook,
                what=f"A step of text_graph over the whole graph of {n_items:,} items and {labels:,} labels of theirs",
            )
        return config.model_copy(update={"graph": form.value}), (form,)

    @classmethod
    def compared_forms(cls, config: TextGraphConfig, share: float) -> tuple[TextGraphConfig, TextGraphConfig] | None:
        """Return the form over the whole graph, and that by as many samples of a node: its labels are as many."""
        if config.graph != "sampled":
            return None
        return config.model_copy(update={"graph": "whole", "neighbours": None}), config

    def add_items(self, features: FeatureSet) -> Self:
        """Return a model with the items of `features` appended, known by their texts and attributes."""
        self.check_fitted()
        inputs = arrays_under(INPUTS, self._state)
        texts = new_text_arrays(arrays_under(TEXT, inputs), features)
        graph = ItemGraph.from_arrays(arrays_under(GRAPH, inputs)).extended(features)
        extended = {
            **{TEXT + name: values for name, values in texts.items()},
            **{GRAPH + name: values for name, values in graph.arrays().items()},
            RATINGS: inputs[RATINGS],
        }
        return self.extended(extended, features.n_items)

    def check_attributes(self, kinds: Mapping[str, AttributeKind]) -> None:
        """Raise :class:`~coldray.core.errors.ConfigError` if the configuration does not go with these attributes."""
        self._check(kinds, [name for name, kind in kinds.items() if kind == "number"])

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what a step on a sampled part of the graph takes, the weights and the tables of items.

        Items are reckoned with :data:`LABELS` labels and one embedded text each, users with :data:`HISTORY` clicks.
        """
        config = self.config
        dim, examples = 4 * config.dim, config.batch_size
        drawn = config.targets + 3 * config.negatives
        nodes = min(n_items, examples * (drawn + HISTORY))
        pairs = examples * (PAIR_VECTORS * dim * drawn + 16 * config.targets * config.negatives)
        clicks = examples * HISTORY * (8 * config.heads + 48) + n_users * HISTORY * 48
        tables = n_items * (8 * TEXT_DIM + 40 * LABELS + NODE_VECTORS * dim)
        weights = 4 * dim * (n_items + 12 * config.dim)
        part = _graph_bytes(config.dim, nodes, LABELS * nodes)
        return part + pairs + clicks + tables + weights + 4 * dim * PAIRS_PER_BLOCK

    def _known(self, features: FeatureSet) -> FeatureSet:
        """Return the features without numbers that are not known before release."""
        numbers = self.config.context
        return FeatureSet(
            {
                name: feature
                for name, feature in features.features.items()
                if not isinstance(feature, ScalarFeature) or name in numbers
            },
            features.n_items,
        )

    def _check(self, attributes: Mapping[str, object], numbers: list[str]) -> None:
        for name in self.config.known_before_release:
            if name not in numbers:
                what = "which is no number" if name in attributes else "which is not used"
                raise ConfigError(
                    f"known_before_release names the attribute {name!r}, {what}.{nearest(name, numbers)} Numbers: "
                    f"{choices(numbers)}."
                )


def _graph_bytes(dim: int, n_nodes: int, n_edges: int) -> int:
    """Return what the two layers keep of a graph, or of a part of it, for the way back."""
    return 4 * dim * (NODE_VECTORS * n_nodes + EDGE_VECTORS * 2 * n_edges)


def _has_places(clicks: sp.csr_array) -> bool:
    """Tell whether values may be places among the clicks of users: whole numbers from 1, of two clicks not all 1."""
    values = places_in(clicks.data)
    told_apart = bool((values > 1).any()) or np.diff(clicks.indptr).max(initial=0) <= 1
    return told_apart and bool((values >= 1).all() and (values == np.rint(values)).all())


def _levels(train: TrainingSet) -> npt.NDArray[np.float32]:
    """Return the levels of ratings, ascending; of more than are told apart, as many evenly spread ones."""
    ratings = ratings_in(train.interactions.data)
    levels = np.unique(ratings[~np.isnan(ratings)]).astype(np.float32)
    if len(levels) == 1:
        logger.warning("rating_embedding is on, but all clicks of %s are rated %g.", train.key, levels[0])
    if len(levels) > _MOST_LEVELS:
        levels = np.unique(np.nanquantile(ratings, np.linspace(0, 1, _MOST_LEVELS))).astype(np.float32)
    return levels
