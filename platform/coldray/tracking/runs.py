"""A study on the MLflow tracking server: one parent run, one nested run a trial, the winner in the registry."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar, Concatenate, ParamSpec, Self, TypeVar
from urllib.parse import urlparse

import mlflow
import requests
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, ParamSchema, Schema
from mlflow.types import ParamSpec as ParameterSpec
from mlflow.types.schema import Array, TensorSpec

from coldray import __version__
from coldray.data.dataset import Dataset
from coldray.errors import TrackingError
from coldray.tracking import pyfunc_path
from coldray.tuning.listeners import StudyListener
from coldray.tuning.results import FoldMetrics, Lift, StudyResult, TrialResult, mean_metric, std_metric
from coldray.tuning.space import StudyConfig

P = ParamSpec("P")
T = TypeVar("T")
TrackerT = TypeVar("TrackerT", bound="StudyTracker")
PARENT_TAG = "mlflow.parentRunId"
RUN_NAME_TAG = "mlflow.runName"
CONNECT_SECONDS = 5
SQLITE_HEAD = b"SQLite format 3\0"


def trial_key(study_id: str, config: Mapping[str, Any]) -> str:
    """Return the idempotent name of a trial: the hash of its study and its configuration."""
    return hashlib.sha256(json.dumps([study_id, dict(config)], sort_keys=True).encode()).hexdigest()[:16]


def server_call(method: Callable[Concatenate[TrackerT, P], T]) -> Callable[Concatenate[TrackerT, P], T]:
    """Turn whatever the server refuses during `method` into one error of ours."""

    @wraps(method)
    def call(self: TrackerT, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except (MlflowException, requests.RequestException) as error:
            raise TrackingError(f"The MLflow server at {self.tracking_uri} refused: {error}") from error

    return call


class StudyTracker(StudyListener):
    """Logs a study as it goes on, from the driver alone.

    Parameters
    ----------
    tracking_uri
        An MLflow tracking URI, such as ``sqlite:///mlflow.db`` or ``http://host:5000``.
    experiment
        Experiment name; created when absent.
    artifact_location
        Where a new experiment of a local database keeps its artifacts. Servers choose their own.
    tags
        More tags of the parent run, such as the comparison that the study belongs to.

    Raises
    ------
    TrackingError
        If the server cannot be reached, before any work starts.
    """

    kind: ClassVar[str] = "study"
    """What the parent run is of, as its tag ``coldray.kind`` says."""

    @server_call
    def __init__(
        self,
        tracking_uri: str,
        experiment: str,
        *,
        artifact_location: Path | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.tracking_uri = tracking_uri
        self.tags = dict(tags or {})
        check_reachable(tracking_uri)
        self.client = MlflowClient(tracking_uri, tracking_uri)
        found = self.client.get_experiment_by_name(experiment)
        local = urlparse(tracking_uri).scheme == "sqlite" and artifact_location is not None
        location = artifact_location.absolute().as_uri() if local and artifact_location else None
        self.experiment_id = (
            found.experiment_id if found else self.client.create_experiment(experiment, artifact_location=location)
        )
        self.experiment = experiment
        self.run_id = ""
        self._trials: dict[str, str] = {}
        self._study_id = ""
        self._searched: tuple[str, ...] = ()

    @server_call
    def study_started(self, config: StudyConfig, dataset: Dataset, study_id: str, protocol: Mapping[str, str]) -> None:
        """Open the parent run with the dataset as its input and the protocol as tags."""
        self._study_id, self._searched = study_id, config.searched
        tags = {"coldray.study": config.name, "coldray.study_id": study_id, "coldray.model": config.model}
        settings = {
            "search.algorithm": config.search.algorithm,
            "search.trials": config.n_trials,
            "search.seed": config.search.seed,
            "candidates": config.candidates,
            "splits": len(config.splits.seeds) * config.splits.n_splits,
            "selection.metric": config.selection.metric,
            "selection.tolerance": config.selection.tolerance,
        }
        self._open(config.name, dataset, tags, settings, protocol)

    def _open(
        self,
        name: str,
        dataset: Dataset,
        tags: Mapping[str, str],
        settings: Mapping[str, Any],
        protocol: Mapping[str, str],
    ) -> None:
        """Open the parent run of what is called `name`."""
        told = {
            "coldray.version": __version__,
            "coldray.kind": self.kind,
            "dataset.name": dataset.name,
            "dataset.fingerprint": dataset.fingerprint,
            "dataset.synthetic": str(dataset.synthetic).lower(),
            **{f"protocol.{key.replace(' ', '_')}": text for key, text in protocol.items()},
            **tags,
            **self.tags,
        }
        run = self.client.create_run(self.experiment_id, tags=told, run_name=f"{name} on {dataset.name}")
        self.run_id = run.info.run_id
        self.client.log_batch(self.run_id, params=params_of(settings))
        self._log_dataset(dataset)

    def _log_dataset(self, dataset: Dataset) -> None:
        source = mlflow.entities.Dataset(
            name=dataset.name,
            digest=dataset.fingerprint[:36],
            source_type="local",
            source=json.dumps(dict(dataset.provenance), default=str)[:4096],
            profile=json.dumps(
                {
                    "n_users": dataset.n_users,
                    "n_items": dataset.n_items,
                    "n_interactions": int(dataset.interactions.nnz),
                    "density": dataset.density,
                    "fingerprint": dataset.fingerprint,
                    "synthetic": dataset.synthetic,
                }
            ),
        )
        context = mlflow.entities.InputTag("mlflow.data.context", "training and evaluation")
        self.client.log_inputs(self.run_id, [mlflow.entities.DatasetInput(source, [context])])

    @server_call
    def trial_started(self, trial_id: str, number: int, config: Mapping[str, Any]) -> None:
        """Open the nested run of a trial."""
        tags = {
            PARENT_TAG: self.run_id,
            "coldray.kind": "trial",
            "coldray.trial": str(number),
            "coldray.trial_key": trial_key(self._study_id, config),
        }
        run = self.client.create_run(self.experiment_id, tags=tags, run_name=f"trial {number:03d}")
        self._trials[trial_id] = run.info.run_id

    @server_call
    def trial_ended(self, trial: TrialResult) -> None:
        """Log a trial in one batch and close its run."""
        run_id = self._trials.get(trial.trial_id)
        if run_id is None:  # it failed before it started
            self.trial_started(trial.trial_id, trial.number, {name: trial.config[name] for name in self._searched})
            run_id = self._trials[trial.trial_id]
        metrics = [*fold_metrics("val", trial.folds), metric_of("seconds", trial.seconds)]
        tags = [RunTag("coldray.status", trial.status)]
        if trial.error:
            tags.append(RunTag("coldray.error", trial.error[:5000]))
        self.client.log_batch(run_id, metrics=metrics, params=params_of(trial.config), tags=tags)
        self.client.set_terminated(run_id, "FAILED" if trial.status == "failed" else "FINISHED")

    @server_call
    def finish(self, result: StudyResult, artifacts: Sequence[Path]) -> None:
        """Log what the study found on the parent run, and its figures and report."""
        metrics = fold_metrics("test", result.test) + fold_metrics("val", result.selection.winner.folds)
        metrics.append(metric_of("study_seconds", result.seconds))
        chosen = {f"winner.{name}": value for name, value in result.selection.winner.config.items()}
        tags = [
            RunTag("coldray.winner_run_id", self._trials.get(result.selection.winner.trial_id, "")),
            RunTag("coldray.winner_trial", str(result.selection.winner.number)),
        ]
        self.client.log_batch(self.run_id, metrics=metrics, params=params_of(chosen), tags=tags)
        for path in artifacts:
            self.client.log_artifact(self.run_id, str(path), "report")
        winner = self._trials.get(result.selection.winner.trial_id)
        if winner:
            self.client.set_tag(winner, "coldray.winner", "true")

    @server_call
    def register(self, bundle: Path, ids: tuple[DataType, DataType], model_name: str, alias: str = "champion") -> str:
        """Log the bundle folder as a model, register it and move the alias to it; return the new version.

        `ids` are the types of user and item ids.
        """
        with _active_server(self.tracking_uri), warnings.catch_warnings():
            # An example would be scored while logging; the signature says all it would.
            warnings.filterwarnings("ignore", ".*An input example was not provided", UserWarning)
            with mlflow.start_run(run_id=self.run_id):
                info = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(pyfunc_path()),
                    artifacts={"bundle": str(bundle)},
                    signature=_signature(*ids),
                    pip_requirements=[f"coldray=={__version__}"],
                )
            if not self.client.search_registered_models(f"name = '{model_name}'"):
                self.client.create_registered_model(model_name)
            version = self.client.create_model_version(
                model_name, info.model_uri, run_id=self.run_id, model_id=info.model_id
            ).version
            self.client.set_registered_model_alias(model_name, alias, version)
        return str(version)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(failed=kind is not None)

    def close(self, *, failed: bool) -> None:
        """End the parent run and every nested run still open.

        Raises
        ------
        TrackingError
            If the server refuses, unless the study `failed`: then its own error is the one to see.
        """
        try:
            self._close("FAILED" if failed else "FINISHED")
        except TrackingError:
            if not failed:
                raise

    @server_call
    def _close(self, status: str) -> None:
        for run_id in self._trials.values():
            run: Run = self.client.get_run(run_id)
            if run.info.status == "RUNNING":
                self.client.set_terminated(run_id, "KILLED")
        if self.run_id:
            self.client.set_terminated(self.run_id, status)


@contextmanager
def _active_server(uri: str) -> Iterator[None]:
    """Let MLflow's module-level calls, which only know one server, speak to `uri` for a while."""
    previous = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    registry = mlflow.get_registry_uri()
    pinned = registry != uri  # otherwise it follows the tracking server, and must go on doing so
    if pinned:
        mlflow.set_registry_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(previous)
        if pinned:
            mlflow.set_registry_uri(registry)


def _signature(user_id: DataType, item_id: DataType) -> ModelSignature:
    """Either column will do, see :class:`~coldray.tracking.pyfunc.BundleModel`."""
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(user_id, "user_id", required=False),
        ColSpec(Array(item_id), "history", required=False),
    ]
    return ModelSignature(inputs=Schema(columns), params=ParamSchema([ParameterSpec("k", DataType.integer, 10)]))


def check_reachable(tracking_uri: str) -> None:
    """Fail within seconds, not minutes of retries, when a tracking server does not answer.

    Raises
    ------
    TrackingError
        Naming the URI and the ways out.
    """
    parsed = urlparse(tracking_uri)
    if parsed.scheme in ("http", "https"):
        try:
            requests.get(f"{tracking_uri.rstrip('/')}/health", timeout=CONNECT_SECONDS).raise_for_status()
        except requests.RequestException as error:
            raise TrackingError(
                f"The MLflow server at {tracking_uri} cannot be reached ({type(error).__name__}). Start it, give "
                "another --tracking-uri, or leave the option out for a local sqlite database."
            ) from error
    elif parsed.scheme == "sqlite" and parsed.path.strip("/"):
        _check_database(Path(parsed.path.removeprefix("/")), tracking_uri)
    else:
        raise TrackingError(
            f"The tracking URI {tracking_uri!r} is not supported: MLflow no longer keeps runs in plain files. "
            "Use sqlite:///path/mlflow.db or http://host:port."
        )


def _check_database(path: Path, tracking_uri: str) -> None:
    """Find out what MLflow would only find out after minutes of retries; nothing is created."""
    reason = ""
    try:
        if path.exists():
            with path.open("r+b") as file:
                head = file.read(len(SQLITE_HEAD))
            reason = "" if head in (b"", SQLITE_HEAD) else f"{path} is not an sqlite database"
        else:
            with tempfile.TemporaryFile(dir=path.parent):
                pass
    except OSError as error:
        what = path if path.exists() else f"{path.parent} is not a writable folder"
        reason = f"{what} ({error.strerror})"
    if reason:
        raise TrackingError(f"The MLflow database {tracking_uri} cannot be written: {reason}.")


def fold_metrics(prefix: str, folds: Sequence[FoldMetrics]) -> list[Metric]:
    """Return means, standard deviations and, by step, the value of each split; ``@`` becomes ``_at_``."""
    if not folds:
        return []
    logged = []
    for name in folds[0].metrics:
        key = f"{prefix}_{name.replace('@', '_at_')}"
        logged.append(metric_of(key, mean_metric(tuple(folds), name)))
        logged.append(metric_of(f"{key}_std", std_metric(tuple(folds), name)))
        logged += [metric_of(f"{key}_split", fold.metrics[name], step) for step, fold in enumerate(folds)]
    return logged


def lift_metrics(lifts: Mapping[str, Lift]) -> list[Metric]:
    """Return each difference to a baseline and its adjusted p, by metric; ``@`` becomes ``_at_``."""
    logged = []
    for name, lift in lifts.items():
        key = name.replace("@", "_at_")
        logged += [metric_of(f"lift_{key}", lift.difference), metric_of(f"lift_{key}_p", lift.p_adjusted)]
    return logged


def metric_of(key: str, value: float, step: int = 0) -> Metric:
    """Return a metric with the time of now."""
    return Metric(key, value, int(time.time() * 1000), step)


def params_of(values: Mapping[str, Any]) -> list[Param]:
    """Return parameters as MLflow keeps them: text."""
    return [
        Param(name, value if isinstance(value, str) else json.dumps(value) if isinstance(value, dict) else str(value))
        for name, value in values.items()
    ]
