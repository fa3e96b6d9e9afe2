"""KernelAlign that takes clicks, on ``ml1m-hetrec``: against EASE on known items, as new items get their clicks, and as
the service is told of them."""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from figures import figure
from kernel_figures import FULL
from load import generate, post
from marec_figures import MEASURED, dataset
from neural_figures import LAMBDAS, metric, tuned
from pydantic import NonNegativeFloat, PositiveFloat
from serving_figures import ask, folder_service, wait_for

from coldray.bundle.fitting import fit_bundle
from coldray.bundle.model import Bundle
from coldray.data.dataset import Dataset, keep_entries, rows_of
from coldray.data.splits.interactions import interaction_splits
from coldray.data.splits.warming import warming_splits
from coldray.evaluation.ranking import Scorer
from coldray.experiments.evaluation import EvaluationFold
from coldray.experiments.folds import prepare_task
from coldray.experiments.tasks.warming import evaluate_warming
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, ModelConfig, Recommender, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.kernel_align.model import KernelAlign, KernelAlignConfig
from coldray.models.linear.ease import EASE, EASEConfig
from coldray.models.marec.model import MARec
from coldray.models.neighbours.content import ContentKNN, ContentKNNConfig
from coldray.models.popularity.model import Popularity
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Query
from coldray.training.options import FitOptions

NDCG = "ndcg@10"
CLICKS = (0, 1, 5, 20, 50)
"""Of the default schedule five, as every number is a fit of every model."""
TAKES = KernelAlignConfig(popularity=0.2, click_ridge=6.0)
"""The first configuration of tune_spaces/kernel_align_warming.yaml, around which it is tuned."""
RIDGES = (2.0, 4.0, 8.0, 16.0)
WARM_RIDGES = (1.0, 2.0, 4.0, 8.0)
PRIORS = (0.75, 1.5, 3.0)
WEIGHTS = (3.0, 4.0, 6.0)
POPULARITIES = (0.0, 0.2, 0.4)
BLENDED = (0.5, 1.0, 2.0, 4.0, 8.0)
ALIGNED = (0.1, 1.0, 10.0)
ASKED = 1500
"""Users whose lists choose, drawn."""
LIVE_ITEMS = 64
"""New items of the service, drawn among those with at least 50 clicks: users send the clicks that they made."""
LIVE_SECONDS = 10.0
LIVE_USERS = 100
"""Whose scores are compared, by histories."""


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
    the better of EASE, fitted with those clicks, and of KernelAlign by attributes. The popularity of KernelAlign with
    clicks is tuned after the two others. MARec is of the first order: of these attributes pairs take minutes a fit.
    """
    split = next(warming_splits(dataset(), protocol="item-warming", seeds=(42,), clicks=CLICKS))
    validation = prepare_task(split.for_tuning().fold, FULL, users=ASKED)
    test = prepare_task(split.test_fold, FULL)
    changes = [{"click_ridge": r, "new_weight": w} for r, w in itertools.product(RIDGES, WEIGHTS)]
    takes = _best([KernelAlign(TAKES.model_copy(update=change)) for change in changes], validation).config
    found: dict[str, list[Recommender[Any]]] = {
        "kernel_align, clicks": [KernelAlign(takes.model_copy(update={"popularity": value})) for value in POPULARITIES],
        "kernel_align": [KernelAlign(KernelAlignConfig(popularity=value)) for value in POPULARITIES],
        "ease": [EASE(EASEConfig(regularization=value)) for value in LAMBDAS[2:]],
        "marec": [MARec(MEASURED.model_copy(update={"beta": value, "order": 1})) for value in ALIGNED],
        "content_knn": [ContentKNN(ContentKNNConfig(k=200))],
        "popularity": [Popularity()],
    }
    chosen = {name: _best(models, validation) for name, models in found.items()}
    regularization = chosen["ease"].config.regularization
    blends = [Blend(_BlendConfig(regularization=regularization, weight=value)) for value in BLENDED]
    measured = {name: _tested(name, model, test) for name, model in chosen.items()}
    blend = _tested("blend", _best(blends, validation), test)
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
    print(f"{task.train.key}: {NDCG} {found.means()[NDCG]:.4f}, {model.config!r}", file=sys.stderr, flush=True)
    return {**found.means(), **found.part_means()}


def _tested(name: str, model: Recommender[Any], test: EvaluationFold) -> dict[str, float]:
    """Return what a model measures on test, and print it."""
    started = time.perf_counter()
    measured = _measured(model, test, Computations())
    cells = {task: [measured[f"{task}.n{n}.{NDCG}"] for n in CLICKS] for task in ("cold_among_cold", "overall")}
    told = "; ".join(f"{task} " + " ".join(f"{value:.4f}" for value in row) for task, row in cells.items())
    warm_lists = statistics.fmean(measured[f"warm_among_all.n{n}.{NDCG}"] for n in CLICKS)
    print(
        f"{name}: {NDCG} {measured[NDCG]:.4f}, {told}, warm {warm_lists:.4f}; {model.config!r} "
        f"({time.perf_counter() - started:.0f} s)",
        file=sys.stderr,
        flush=True,
    )
    return measured


@figure("live_update_visible_s", bar=1.0)
@figure("live_update_error", unit="×", bar=1e-4, better="lower")
@figure("live_updates_per_s", unit="events/s", bar=200, better="higher")
def live_updates() -> dict[str, float]:
    """Clicks on new items as feedback to the service: from the call to a list that knows it, the slowest of ten.

    Then as many clicks as 32 connections can send, each answered when the lists know it. The scores after all of them,
    against those of a fit of its own that is told of all at once: the largest difference, over the largest score.
    """
    generator = np.random.default_rng(0)
    data = dataset()
    counts = np.bincount(data.interactions.indices, minlength=data.n_items)
    items = np.sort(generator.choice(np.flatnonzero(counts >= CLICKS[-1]), LIVE_ITEMS, replace=False))
    new = np.isin(data.interactions.indices, items)
    pairs = generator.permutation(np.stack([rows_of(data.interactions)[new], data.interactions.indices[new]], axis=1))
    live = data.item_ids[items].tolist()
    events = [
        {"event_id": f"{number}", "user_id": data.user_ids[user].item(), "item_id": data.item_ids[item].item()}
        for number, (user, item) in enumerate(pairs)
    ]
    bundle = _without(data, new)
    histories = [bundle.history(user) for user in generator.choice(data.user_ids, LIVE_USERS, replace=False).tolist()]
    sent: list[int] = list(range(10))
    with folder_service(bundle, cache="memory") as port:

        def scores(history: Any) -> dict[Any, float]:
            _, answer = ask(port, "/v1/recommend", {"history": history, "k": LIVE_ITEMS, "candidates": live})
            return {place["item_id"]: place["score"] for place in answer["items"]}

        seconds = [_visible(port, event, scores, histories[0]) for event in events[:10]]
        requests = [post("/v1/feedback", event) for event in events[10:]]

        def check(place: int, status: int, _: bytes) -> None:
            if status == 202:
                sent.append(10 + place % len(requests))

        load = generate(port, requests, connections=32, seconds=LIVE_SECONDS, check=check)
        found = [scores(history) for history in histories]
    if set(load.statuses) != {202} or len(sent) > len(events):
        raise RuntimeError(f"Not all events were taken, or they were too few: {load.statuses}")
    told = sp.csr_array((np.ones(len(sent), np.float32), tuple(pairs[sent].T)), shape=data.interactions.shape)
    fit = _without(data, new)
    train = TrainingSet(sp.csr_array(fit.interactions + told), fit.features, "told at once")
    engine = Engine(replace(fit, model=fit.model.with_clicks(train)))
    queries = [Query(k=LIVE_ITEMS, history=dict.fromkeys(one), candidates=tuple(live)) for one in histories]
    expected = [{place.item: place.score for place in answer.places} for answer in engine.answer(queries)]
    most = max(abs(score) for one in expected for score in one.values())
    errors = [abs(got[item] - one[item]) for got, one in zip(found, expected, strict=True) for item in one]
    print(f"{len(sent)} events, seconds {seconds}", file=sys.stderr)
    return {
        "live_update_visible_s": max(seconds),
        "live_update_error": max(errors) / most,
        "live_updates_per_s": load.statuses[202] / load.seconds,
    }


def _without(data: Dataset, entries: npt.NDArray[np.bool_]) -> Bundle:
    """Return KernelAlign fitted on all clicks but some."""
    kept = replace(data, interactions=keep_entries(data.interactions, ~entries))
    return fit_bundle(KernelAlign(TAKES), kept, FeatureEncoder(FeatureConfig()), {})


def _visible(port: int, event: Mapping[str, Any], scores: Callable[[Any], dict[Any, float]], history: Any) -> float:
    """Return the seconds from the call with an event to the first list that it changes."""
    before, start = scores(history), time.perf_counter()
    ask(port, "/v1/feedback", event)
    wait_for(lambda: scores(history)[event["item_id"]] != before[event["item_id"]])
    return time.perf_counter() - start
