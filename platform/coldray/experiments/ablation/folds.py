"""What one fold contributes to an ablation, computed by an actor of the cluster.

Notation used for shapes: m tested users, n items.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
import ray
import scipy.sparse as sp

from coldray.core.errors import ColdrayError, StudyError
from coldray.core.masking import masked
from coldray.core.ray_errors import in_words
from coldray.data.splits.items import Fold
from coldray.data.splits.positives import Positives
from coldray.experiments.ablation.result import NEAREST
from coldray.experiments.evaluation import Candidates, EvaluationFold, evaluate
from coldray.experiments.folds import prepare_task
from coldray.experiments.listeners import StudyListener
from coldray.features.builder import FeatureConfig
from coldray.models.computations import Computations
from coldray.models.marec.plus import MARecPlus, MARecPlusConfig
from coldray.models.neural.inputs import AttributeInputs
from coldray.training.options import FitConfig

_BLOCK = 512
"""Cold items whose similarities to warm ones are computed at once."""
_PROFILE_USERS = 500
"""Users whose scores make an item's score profile in the diagnostics."""
TERMS = {"InfoNCE": "ca", "Gaussian NLL": "ua", "reconstruction": "ge", "KL": "ge"}
"""Terms of the training losses, and whose they are."""
_RETRIES = 3
"""So often a fold is begun anew after its worker was lost."""
Arrays = dict[str, npt.NDArray[Any]]
T = TypeVar("T")


@dataclass(frozen=True)
class FoldPlan:
    """What all folds have in common."""

    dataset: str
    """Fingerprint of the data."""
    splits: str
    """How they were drawn."""
    features: FeatureConfig
    candidates: Candidates
    cutoffs: tuple[int, ...]
    metric: str
    """What the stages are tuned by."""
    fit: FitConfig = FitConfig()
    """How the model is fitted, on which no result depends."""
    positives: Positives | None = None
    """Of what is held out, what is to be found; None is all of it."""

    def key(self) -> dict[str, Any]:
        """Return what results depend on, whatever is computed, as plain values."""
        values = {**asdict(self), "features": self.features.model_dump(mode="json")}
        del values["fit"], values["positives"]
        return values if self.positives is None else {**values, "positives": self.positives.model_dump(mode="json")}

    def prepared(self, fold: Fold) -> EvaluationFold:
        """Return a fold made ready."""
        return prepare_task(fold, self.features, positives=self.positives)


@ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=_RETRIES)
class _FoldWorker:
    """Works on some of the folds, and keeps what the stages of a fold share.

    A fold always goes to the same worker: its similarities, factorisations and trained networks are then there. One
    that is lost comes back without them and computes them again.
    """

    def __init__(self, plan: FoldPlan) -> None:
        self.plan = plan
        self.prepared: dict[str, tuple[EvaluationFold, Computations]] = {}

    def validate(self, fold: Fold, parameters: Mapping[str, Any]) -> tuple[float, str]:
        """Return the validation metric of a configuration, or NaN and the reason it failed."""
        if fold.name not in self.prepared:
            self.prepared[fold.name] = (self.plan.prepared(fold), Computations())
        task, shared = self.prepared[fold.name]
        return _validated(task, parameters, self.plan, shared)

    def test(self, fold: Fold, modes: Mapping[str, Mapping[str, Any]], diagnose: bool) -> tuple[dict[str, Any], Arrays]:
        """Fit every mode on train and measure it on the test items, once: see :func:`_tested_modes`."""
        self.prepared.clear()  # no stage will follow
        return _tested_modes(self.plan.prepared(fold), modes, self.plan, diagnose)


class FoldWorkers:
    """The workers of the cluster, started when the first fold has to be computed."""

    def __init__(self, plan: FoldPlan, n_folds: int) -> None:
        self.plan, self.n_folds = plan, n_folds
        self.actors: list[Any] = []

    def of(self, position: int) -> Any:
        """Return the worker of the fold at that position, always the same one."""
        if not self.actors:
            cpus = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
            count = max(1, min(cpus, self.n_folds))
            self.actors = [_FoldWorker.remote(self.plan) for _ in range(count)]  # type: ignore[attr-defined]
        return self.actors[position % len(self.actors)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self.actors:
            ray.kill(actor)


def as_completed(
    running: Mapping[Any, tuple[str, T]], step: str, listener: StudyListener
) -> Iterator[tuple[str, T, Any]]:
    """Yield what runs as it ends, with its outcome, telling how far the step is.

    Parameters
    ----------
    running
        For each reference the name of the fold, and whatever else tells it from others.

    Raises
    ------
    StudyError
        If one fails, or its worker is lost again and again.
    """
    waiting, total = list(running), len(running)
    if waiting:
        listener.advanced(step, 0, total)
    while waiting:
        (reference,), waiting = ray.wait(waiting, num_returns=1)
        name, what = running[reference]
        try:
            outcome = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise StudyError(f"{step} on {name} failed: {in_words(error)}") from error
        except ray.exceptions.RayError as error:
            raise StudyError(
                f"{step} on {name} failed: its worker was lost {_RETRIES + 1} times, most often for want of memory. "
                "Use fewer CPUs, so that fewer folds are worked on at once."
            ) from error
        listener.advanced(step, total - len(waiting), total)
        yield name, what, outcome


def _validated(
    task: EvaluationFold, parameters: Mapping[str, Any], plan: FoldPlan, shared: Computations
) -> tuple[float, str]:
    cutoff = int(plan.metric.partition("@")[2])
    try:
        model = _model(parameters, task).fit(task.train, shared, plan.fit.options())
        value = evaluate(model, task, candidates=plan.candidates, cutoffs=(cutoff,)).means()[plan.metric]
        return value, "" if np.isfinite(value) else f"NumericalError: {plan.metric} is {value}"
    except (ColdrayError, MemoryError, np.linalg.LinAlgError) as error:
        cause = getattr(error, "cause", None) or error
        return float("nan"), f"{type(cause).__name__}: {masked(str(cause))}"


def _model(parameters: Mapping[str, Any], task: EvaluationFold) -> MARecPlus:
    """Return the model of one configuration; the seed of the fold is that of the training, too."""
    return MARecPlus(MARecPlusConfig.model_validate({**parameters, "seed": task.seed}))


def _tested_modes(
    task: EvaluationFold, modes: Mapping[str, Mapping[str, Any]], plan: FoldPlan, diagnose: bool
) -> tuple[dict[str, Any], Arrays]:
    """Fit every mode on train and measure it on the test items, once.

    Returns
    -------
    tuple
        Means and seconds by mode; and arrays: ``users`` ``[m]``, values by user, training curves, and what the
        diagnostics draw if asked for.
    """
    shared = Computations()
    means: dict[str, Any] = {}
    arrays: Arrays = {"users": task.users}
    models = {}
    for name, parameters in modes.items():
        started = time.perf_counter()
        models[name] = _model(parameters, task).fit(task.train, shared, plan.fit.options())
        metrics = evaluate(models[name], task, candidates=plan.candidates, cutoffs=plan.cutoffs)
        means[name] = {"metrics": metrics.means(), "seconds": time.perf_counter() - started}
        arrays |= {f"per_user/{name}/{metric}": values for metric, values in metrics.per_user.items()}
    full = models[list(modes)[-1]]
    for term, prefix in TERMS.items():
        if prefix in full.refinements:
            arrays[f"curve/{term}"] = full.refinements[prefix].history[term]
    if diagnose:
        arrays |= _diagnostics(task, models)
    return means, arrays


def _diagnostics(task: EvaluationFold, models: Mapping[str, MARecPlus]) -> Arrays:
    """Return planes of features and of score profiles, and how far cold items are from warm ones."""
    train = task.train
    inputs = AttributeInputs.of(train).encode(train.features)
    items = np.sort(np.concatenate([train.warm_items, task.held_out_items]))
    points, explained = _plane(sp.csr_array(inputs[items]))
    arrays = {
        "cold": np.isin(items, task.held_out_items),
        "features/points": points,
        "features/explained": explained,
        "neighbour_distance": _distance(inputs, train.warm_items, task.held_out_items),
    }
    generator = np.random.default_rng(task.seed)
    users = np.sort(generator.permutation(task.users)[:_PROFILE_USERS])
    histories = sp.csr_array(train.interactions[users])
    for name in (next(iter(models)), list(models)[-1]):
        scores = models[name].score(histories, items).astype(np.float64)
        points, explained = _plane(_standardised(scores.T))
        arrays |= {f"scores/{name}/points": points, f"scores/{name}/explained": explained}
    return arrays


def _standardised(profiles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return every item's profile in units of its own spread: what is compared is its shape, not its popularity."""
    centred = profiles - profiles.mean(axis=1, keepdims=True)
    spread = centred.std(axis=1, keepdims=True)
    return np.asarray(centred / np.where(spread > 0, spread, 1))


def _plane(rows: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the first two principal components ``[n, 2]``, and the share of the variance along each."""
    from sklearn.decomposition import PCA  # takes a worker most of a second, and the first fold alone is drawn

    model = PCA(n_components=2, svd_solver="arpack" if sp.issparse(rows) else "full", random_state=0)
    return model.fit_transform(rows), model.explained_variance_ratio_


def _distance(
    inputs: sp.csr_array, warm: npt.NDArray[np.int32], cold: npt.NDArray[np.int32]
) -> npt.NDArray[np.float64]:
    """Return the mean cosine distance of each cold item to its :data:`NEAREST` nearest warm ones, or all of fewer."""
    norms = np.sqrt(np.asarray(inputs.multiply(inputs).sum(axis=1)).ravel())
    unit = sp.csr_array(sp.diags_array(1 / np.where(norms > 0, norms, 1)) @ inputs)
    against, count = unit[warm].T, min(NEAREST, len(warm))
    found = np.zeros(len(cold))
    for start in range(0, len(cold), _BLOCK):
        alike = (unit[cold[start : start + _BLOCK]] @ against).toarray()  # [block, warm]
        found[start : start + _BLOCK] = 1 - np.partition(alike, -count, axis=1)[:, -count:].mean(axis=1)
    return found
