"""KernelAlign that takes clicks, on ``ml1m-hetrec``: against EASE on known items, and as new items get their clicks."""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from figures import figure
from kernel_figures import FULL
from marec_figures import MEASURED, dataset
from neural_figures import LAMBDAS, metric, tuned
from pydantic import NonNegativeFloat, PositiveFloat

from coldray.data.splits.interactions import interaction_splits
from coldray.data.splits.warming import WARMING_CLICKS, warming_splits
from coldray.evaluation.ranking import Scorer
from coldray.experiments.evaluation import EvaluationFold
from coldray.experiments.folds import prepare_task
from coldray.experiments.tasks.warming import evaluate_warming
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, ModelConfig, Recommender, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.kernel_align.model import KernelAlign, KernelAlignConfig
from coldray.models.linear.ease import EASE, EASEConfig
from coldray.models.marec.model import MARec
from coldray.models.neighbours.content import ContentKNN, ContentKNNConfig
from coldray.models.popularity.model import Popularity
from coldray.training.options import FitOptions

NDCG = "ndcg@10"
CLICKS = WARMING_CLICKS["item-warming"]
TAKES = KernelAlignConfig(popularity=0.2, click_ridge=6.0)
"""The first configuration of tune_spaces/kernel_align_warming.yaml, around which it is tuned."""
RIDGES = (4.0, 8.0)
WARM_RIDGES = (1.0, 2.0, 4.0, 8.0)
PRIORS = (0.75, 1.5, 3.0)
WEIGHTS = (3.0, 4.0, 6.0)
POPULARITIES = (0.0, 0.2, 0.4)
BLENDED = (0.5, 1.0, 2.0, 4.0, 8.0)
ALIGNED = (100.0, 1000.0)
ASKED = 1500
"""Users whose lists choose, drawn."""


class _BlendConfig(ModelConfig):
    """Two models, and the weight of the second."""

    regularization: PositiveFloat = 500.0
    popularity: NonNegativeFloat = 0.2
    weight: NonNegativeFloat = 1.0


class Blend(Recommender[_BlendConfig]):
    """EASE plus KernelAlign by attributes, both fitted with all clicks that are known."""

    name: ClassVar[str] = "blend"
    config_type: ClassVar[type[ModelConfig]] = _BlendConfig
    scores_cold_items: ClassVar[bool] = True

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Fit both."""
        config = self.config
        self._ease = EASE(EASEConfig(regularization=config.regularization)).fit(train, computations, options)
        kernel = KernelAlign(KernelAlignConfig(popularity=config.popularity))
        self._kernel = kernel.fit(train, computations, options)
        return self

    @property
    def n_items(self) -> int:
        """Number of items."""
        return self._kernel.n_items

    def scorer(self, items: Items) -> Scorer:
        """Return the weighted sum."""
        first, second = self._ease.scorer(items), self._kernel.scorer(items)

        def scores(histories: sp.csr_array) -> Scores:
            return first(histories) + np.float32(self.config.weight) * second(histories)

        return scores

    def state(self) -> Mapping[str, npt.NDArray[Any]]:
        """Not stored."""
        raise NotImplementedError

    @classmethod
    def from_state(cls, config: _BlendConfig, state: Mapping[str, npt.NDArray[Any]], features: FeatureSet) -> Self:
        """Not stored."""
        raise NotImplementedError


@figure("kernel_warm_over_ease", unit="×", bar=0.99, better="higher")
def warm() -> float:
    """Test ndcg@10 over that of EASE, a random 20 % of each user's clicks held out; both are tuned on validation."""
    split = next(interaction_splits(dataset(), protocol="holdout", seeds=(42,)))
    validation, test = (prepare_task(fold, FULL) for fold in (split.for_tuning().fold, split.test_fold))
    ease = tuned([EASE(EASEConfig(regularization=value)) for value in LAMBDAS], [validation], "all")
    kernels = [
        KernelAlign(TAKES.model_copy(update={"click_ridge": ridge, "prior_clicks": prior}))
        for ridge, prior in itertools.product(WARM_RIDGES, PRIORS)
    ]
    kernel = tuned(kernels, [validation], "all")
    print(f"{kernel.config!r}, {ease.config!r}", file=sys.stderr)
    return metric(kernel, test) / metric(ease, test)


@figure("warming_worst_ratio", unit="×", bar=1.0, better="higher")
@figure("overall_over_best", unit="×", bar=1.05, better="higher")
@figure("overall_over_blend", unit="×", bar=1.0, better="higher")
def warming() -> dict[str, float]:
    """Test ndcg@10 as cold items get 0 to 50 clicks; every model is tuned by the lists of all items on validation.

    The worst ratio is that of cold items among cold ones, and of the lists of all items, at any number of clicks, to
    the better of EASE, fitted with those clicks, and of KernelAlign by attributes.
    """
    split = next(warming_splits(dataset(), protocol="item-warming", seeds=(42,)))
    validation = prepare_task(split.for_tuning().fold, FULL, users=ASKED)
    test = prepare_task(split.test_fold, FULL)
    changes = [{"click_ridge": r, "new_weight": w} for r, w in itertools.product(RIDGES, WEIGHTS)]
    found: dict[str, list[Recommender[Any]]] = {
        "kernel_align, clicks": [KernelAlign(TAKES.model_copy(update=change)) for change in changes],
        "kernel_align": [KernelAlign(KernelAlignConfig(popularity=value)) for value in POPULARITIES],
        "ease": [EASE(EASEConfig(regularization=value)) for value in LAMBDAS[1:4]],
        "marec": [MARec(MEASURED.model_copy(update={"beta": value})) for value in ALIGNED],
        "content_knn": [ContentKNN(ContentKNNConfig(k=200))],
        "popularity": [Popularity()],
    }
    measured = {name: _tested(name, models, validation, test) for name, models in found.items()}
    best = _best(found["ease"], validation).config.regularization
    blends = [Blend(_BlendConfig(regularization=best, weight=value)) for value in BLENDED]
    blend = _tested("blend", blends, validation, test)
    ours = measured.pop("kernel_align, clicks")
    compared = [
        ours[part] / max(measured[name][part] for name in ("ease", "kernel_align"))
        for part in (f"{task}.n{n}.{NDCG}" for task in ("cold_among_cold", "overall") for n in CLICKS)
    ]
    return {
        "warming_worst_ratio": min(compared),
        "overall_over_best": ours[NDCG] / max(other[NDCG] for other in measured.values()),
        "overall_over_blend": ours[NDCG] / blend[NDCG],
    }


def _best(models: Sequence[Recommender[Any]], task: EvaluationFold) -> Recommender[Any]:
    """Return the model with the best lists of all items, in the mean over the numbers of known clicks."""
    shared = Computations()
    return models[0] if len(models) == 1 else max(models, key=lambda model: _measured(model, task, shared)[NDCG])


def _measured(model: Recommender[Any], task: EvaluationFold, shared: Computations) -> dict[str, float]:
    found = evaluate_warming(model.fit(task.train, shared), task, candidates="all", cutoffs=(10,), computations=shared)
    return {**found.means(), **found.part_means()}


def _tested(
    name: str, models: Sequence[Recommender[Any]], validation: EvaluationFold, test: EvaluationFold
) -> dict[str, float]:
    """Return what the best model on validation measures on test, and print it."""
    started = time.perf_counter()
    best = _best(models, validation)
    measured = _measured(best, test, Computations())
    cells = {task: [measured[f"{task}.n{n}.{NDCG}"] for n in CLICKS] for task in ("cold_among_cold", "overall")}
    told = "; ".join(f"{task} " + " ".join(f"{value:.4f}" for value in row) for task, row in cells.items())
    warm_lists = statistics.fmean(measured[f"warm_among_all.n{n}.{NDCG}"] for n in CLICKS)
    print(
        f"{name}: {NDCG} {measured[NDCG]:.4f}, {told}, warm {warm_lists:.4f}; {best.config!r} "
        f"({time.perf_counter() - started:.0f} s)",
        file=sys.stderr,
        flush=True,
    )
    return measured
