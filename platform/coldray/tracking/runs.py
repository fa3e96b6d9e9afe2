"""A study on the MLflow tracking server: one parent run, one nested run a trial, the winner in the registry."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import urlparse

from mlflow.types import DataType

from coldray import __version__
from coldray.core.commands import called
from coldray.core.errors import SearchInterruptedError, TrackingError
from coldray.data.dataset import Dataset
from coldray.experiments.edges import edge_words
from coldray.experiments.listeners import StudyListener
from coldray.experiments.promotion.outcome import Promotion
from coldray.experiments.results import StudyResult, TrialResult
from coldray.experiments.space import StudyConfig
from coldray.tracking.access import check_reachable, holds_nothing
from coldray.tracking.epochs import EpochTracker
from coldray.tracking.limits import taken_text
from coldray.tracking.logged_values import fold_metrics, metric_of, params_of
from coldray.tracking.placement import Placement
from coldray.tracking.receiver import RefusedError, UnavailableError
from coldray.tracking.server import MlflowServer
from coldray.tracking.spool import OPEN_STATUS, Spool
from coldray.training.progress import TrainingPlace

EXPERIMENT_NAME_LIMIT, DATASET_NAME_LIMIT, SOURCE_LIMIT = 500, 500, 30_000
"""Characters that MLflow takes."""


class StudyTracker(StudyListener):
    """Logs a study as it goes on, from the driver alone, through a :class:`~coldray.tracking.spool.Spool`.

    A study that goes on is given the same file: its runs go on too, and what is logged already is not logged again.

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
    path
        The file of the spool; one that goes with this object unless given.
    offline
        True keeps everything in the file and asks no server.
    spool
        A spool to share, in the place of `path`.
    parent
        Key in that spool of the run that the study's own lies below.
    say
        Told when the server stops answering, and when it answers again.

    Raises
    ------
    TrackingError
        If the server cannot be reached or refuses the experiment, as one that is deleted, before any work starts.
    """

    kind: ClassVar[str] = "study"
    """What the parent run is of, as its tag ``coldray.kind`` says."""

    def __init__(
        self,
        tracking_uri: str,
        experiment: str,
        *,
        artifact_location: Path | None = None,
        tags: Mapping[str, str] | None = None,
        path: Path | None = None,
        offline: bool = False,
        spool: Spool | None = None,
        parent: str | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.tracking_uri, self.experiment = tracking_uri, experiment
        self.tags, self._parent = dict(tags or {}), parent
        self.server = server_of(tracking_uri, experiment, artifact_location)
        if not offline and spool is None:
            self._check_experiment(say)
        self._shared = spool is not None
        self.spool = spool or Spool(path, None if offline else self.server, say=say)
        self._study_id = ""
        self._searched: tuple[str, ...] = ()
        self._trials: dict[int, str] = {}
        self._trainings: dict[str, list[EpochTracker]] = {}

    def _check_experiment(self, say: Callable[[str], None] | None) -> None:
        """Make the experiment, or find that it is refused; a server that is away now is asked again by the spool."""
        with _refused_at_the_start(say):
            check_reachable(self.tracking_uri)
            self.server.check_experiment()

    @property
    def experiment_id(self) -> str:
        """The server's id of the experiment."""
        return self.server.experiment_id

    @property
    def key(self) -> str:
        """The spool's name of the parent run."""
        return self._study_id

    @property
    def run_id(self) -> str:
        """The server's id of the parent run; empty if there is none yet."""
        return (self.spool.run_id(self._study_id) if self._study_id in self.spool.status else None) or ""

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
        """Open the parent run of what is called `name`, or go on with it."""
        if self._study_id in self.spool.status:
            self.spool.reopen(self._study_id)
            return
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
        self.spool.add("run", self._study_id, name=f"{name} on {dataset.name}", tags=told, parent=self._parent)
        self.spool.log(self._study_id, params=params_of(settings))
        self.spool.add("dataset", self._study_id, dataset=_dataset_input(dataset))

    def trial_started(self, trial_id: str, number: int, config: Mapping[str, Any]) -> None:
        """Open the nested run of a trial, or go on with it."""
        key = self._trials[number] = self._key(trial_id)
        if key in self.spool.status:
            self.spool.reopen(key)
            return
        tags = {"coldray.kind": "trial", "coldray.trial": str(number), "coldray.trial_key": trial_id}
        self.spool.add("run", key, name=f"trial {number:03d}", tags=tags, parent=self._study_id)

    def training_of(self, place: TrainingPlace) -> EpochTracker:
        """Log the epochs of a trial's training to its run, those of others to the parent run."""
        key = self._study_id if place.trial is None else self._trials[place.trial]
        tracker = EpochTracker(self.spool, key, place)
        self._trainings.setdefault(key, []).append(tracker)
        return tracker

    def trial_ended(self, trial: TrialResult) -> None:
        """Log a trial and close its run, unless that has been done."""
        key = self._key(trial.trial_id)
        for tracker in self._trainings.pop(key, ()):
            tracker.send()  # of one that was stopped early
        if key not in self.spool.status:  # it failed before it started
            self.trial_started(trial.trial_id, trial.number, {name: trial.config[name] for name in self._searched})
        if self.spool.status[key] in ("FINISHED", "FAILED"):
            return
        self.spool.reopen(key)
        tags = {"coldray.status": trial.status, **({"coldray.error": trial.error} if trial.error else {})}
        metrics = [*fold_metrics("val", trial.folds), metric_of("seconds", trial.seconds)]
        self.spool.log(key, metrics, params_of(trial.config), tags)
        self.spool.end(key, "FAILED" if trial.status == "failed" else "FINISHED")

    def _key(self, trial_id: str) -> str:
        return f"{self._study_id}/{trial_id}"

    def finish(self, result: StudyResult, artifacts: Sequence[Path]) -> None:
        """Log what the study found on the parent run, and its figures and report."""
        metrics = fold_metrics("test", result.test) + fold_metrics("val", result.selection.winner.folds)
        metrics.append(metric_of("study_seconds", result.seconds))
        metrics += [metric_of("form_loss", form.loss) for form in result.forms if form.loss is not None]
        chosen = {f"winner.{name}": value for name, value in result.selection.winner.config.items()}
        winner = self._key(result.selection.winner.trial_id)
        tags = {
            "coldray.winner_run_id": {"run": winner} if winner in self.spool.status else "",
            "coldray.winner_trial": str(result.selection.winner.number),
            **({"protocol.form": result.protocol["form"]} if "form" in result.protocol else {}),
            **({"coldray.edges": edge_words(result.edges)} if result.edges else {}),
            **({"coldray.notes": "\n".join(result.notes)} if result.notes else {}),
        }
        self.spool.log(self._study_id, metrics, params_of(chosen), tags)
        self._log_files(artifacts, "report")
        if winner in self.spool.status:
            self.spool.log(winner, tags={"coldray.winner": "true"})

    def _log_files(self, files: Sequence[Path], folder: str) -> None:
        for path in files:
            self.spool.add("file", self._study_id, path=str(path.absolute()), folder=folder)

    def register(
        self, bundle: Path, ids: tuple[DataType, DataType], model_name: str, promotion: Promotion
    ) -> Placement | None:
        """Log the bundle folder as a model, register it and give it its alias.

        Returns the new version; None if the server does not answer now, or is not asked.

        Parameters
        ----------
        ids
            The types of user and item ids.
        promotion
            What was decided of it; if the champion is another one by then, it becomes the challenger.
        """
        place = self.spool.add(
            "model",
            self._study_id,
            bundle=str(bundle.absolute()),
            ids=[kind.name for kind in ids],
            name=model_name,
            alias=promotion.alias,
            promotion=asdict(promotion),
        )
        version = self.spool.outcome(place)
        if version is None:
            return None
        return self.server.placements.get(place) or Placement(model_name, version, promotion.alias, promotion.reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        interrupted = kind is not None and (not issubclass(kind, Exception) or kind is SearchInterruptedError)
        self.close(failed=kind is not None, interrupted=interrupted)

    def close(self, *, failed: bool, interrupted: bool = False) -> int:
        """End every nested run still open, and the parent run; return how many calls the server has not taken yet.

        What it has refused is sent once more: it may have been restored.
        """
        for tracker in [one for of_run in self._trainings.values() for one in of_run]:
            tracker.send()
        for key, status in list(self.spool.status.items()):
            if status == OPEN_STATUS and key.startswith(f"{self._study_id}/"):
                self.spool.end(key, "KILLED")
        if self._study_id in self.spool.status:
            self.spool.end(self._study_id, "KILLED" if interrupted else "FAILED" if failed else "FINISHED")
        if self._shared:
            return self.spool.waiting
        if not interrupted:
            self.spool.retry()
        return self.spool.close()


def server_of(tracking_uri: str, experiment: str, artifact_location: Path | None) -> MlflowServer:
    """Return the server at a URI; a local database keeps the artifacts of a new experiment where it is told to."""
    local = urlparse(tracking_uri).scheme == "sqlite" and artifact_location is not None
    location = artifact_location.absolute().as_uri() if local and artifact_location else None
    return MlflowServer(tracking_uri, experiment, location)


def _source(dataset: Dataset) -> str:
    """Return where a dataset comes from as JSON, of which MLflow takes so much."""
    source = json.dumps(dict(dataset.provenance), default=str)
    return source if len(source) <= SOURCE_LIMIT else json.dumps({"cut": taken_text(source, SOURCE_LIMIT // 2)})


def _dataset_input(dataset: Dataset) -> dict[str, str]:
    """Return the fields of MLflow's entity of a dataset."""
    profile = {
        "n_users": dataset.n_users,
        "n_items": dataset.n_items,
        "n_unclicked_items": dataset.n_unclicked_items,
        "n_interactions": int(dataset.interactions.nnz),
        "density": dataset.density,
        "fingerprint": dataset.fingerprint,
        "synthetic": dataset.synthetic,
    }
    return {
        "name": taken_text(dataset.name, DATASET_NAME_LIMIT),
        "digest": dataset.fingerprint[:36],
        "source_type": "local",
        "source": _source(dataset),
        "profile": json.dumps(profile),
    }


def check_experiment(tracking_uri: str, experiment: str) -> None:
    """Refuse an experiment that is deleted, before anything takes long; nothing is created.

    Raises
    ------
    TrackingError
        Naming the command that brings it back.
    """
    if not experiment.strip() or len(experiment) > EXPERIMENT_NAME_LIMIT:
        raise TrackingError(
            f"--experiment {experiment[:40]!r}: an experiment has a name of at most {EXPERIMENT_NAME_LIMIT} "
            f"characters; this one has {len(experiment)}."
        )
    if holds_nothing(tracking_uri):
        return
    with _refused_at_the_start(None):
        MlflowServer(tracking_uri, experiment).check_not_deleted()


@contextmanager
def _refused_at_the_start(say: Callable[[str], None] | None) -> Iterator[None]:
    """Let pass that a server does not answer now: the spool asks it again."""
    try:
        yield
    except UnavailableError as error:
        if say is not None:
            say(f"{error} The study goes on, and what is to be logged is kept.")
    except RefusedError as error:
        raise TrackingError(f"{error} Or give --offline: {called('sync')} sends everything later.") from error
