"""The calls of a spool, made on an MLflow tracking server."""

from __future__ import annotations

import json
import os
import shlex
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, ParamSchema, Schema
from mlflow.types import ParamSpec as ParameterSpec
from mlflow.types.schema import AnyType, Array, TensorSpec

from coldray import __version__
from coldray.bundle import pyfunc_path
from coldray.bundle.io import FILES, RATINGS
from coldray.core.commands import called
from coldray.core.environment import unset_empty
from coldray.core.journal import Record
from coldray.tracking.access import open_client
from coldray.tracking.answers import AWAY, BrokenError, Patience, told_apart
from coldray.tracking.database import database_path
from coldray.tracking.placement import Placement, place, version_tags
from coldray.tracking.receiver import RefusedError
from coldray.tracking.spool import OPEN_STATUS

_USERS = FILES[2]
KEY_TAG, PARENT_TAG = "coldray.key", "mlflow.parentRunId"
_DELETED = "deleted"
_REQUEST_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""A call on a server that does not answer fails in seconds, and the spool makes it again; MLflow would take minutes, or
make a second run where an answer was lost. Files go through the server: MLflow would send clients to its store, which
need not be open to them. MLflow would print the address of the server, with its password."""


class MlflowServer:
    """Makes the calls of a spool.

    Parameters
    ----------
    tracking_uri
        An MLflow tracking URI.
    experiment
        Experiment of new runs; created when absent.
    artifact_location
        Where a new experiment keeps its artifacts; the server chooses unless given.
    """

    def __init__(self, tracking_uri: str, experiment: str, artifact_location: str | None = None) -> None:
        self.tracking_uri, self.experiment, self._location = tracking_uri, experiment, artifact_location
        unset_empty("MLFLOW_")
        for name, value in _REQUEST_SETTINGS.items():
            os.environ.setdefault(name, value)
        self.placements: dict[int, Placement] = {}
        """The versions that were registered, by the number of their record."""
        self._patience = Patience()
        self._client: MlflowClient | None = None
        self._opened_file: tuple[int, int] | None = None
        self._experiment_id: str | None = None
        self._calls: Mapping[str, Callable[[Record, Mapping[str, str]], None]] = {
            "log": self._log,
            "dataset": self._dataset,
            "file": self._file,
            "status": self._status,
        }

    @property
    def client(self) -> MlflowClient:
        """The client, made at the first call: a database is opened then."""
        if self._client is None:
            self._client = open_client(self.tracking_uri)
            self._opened_file = self._database_file()
        return self._client

    def check_not_deleted(self) -> None:
        """Refuse an experiment that is deleted; one that is absent is not made.

        Raises
        ------
        UnavailableError
            If the server does not answer now.
        RefusedError
            If the experiment is deleted, or the server tells nothing of it.
        """
        with told_apart(self.tracking_uri):
            found = self.client.get_experiment_by_name(self.experiment)
        if found and found.lifecycle_stage == _DELETED:
            raise self._deleted_experiment(found)

    @property
    def experiment_id(self) -> str:
        """The id of the experiment, which is created when absent.

        Raises
        ------
        RefusedError
            If it is deleted.
        """
        if self._experiment_id is None:
            found = self.client.get_experiment_by_name(self.experiment) or self._created()
            if found.lifecycle_stage == _DELETED:
                raise self._deleted_experiment(found)
            self._experiment_id = str(found.experiment_id)
        return self._experiment_id

    def _created(self) -> Experiment:
        try:
            return self.client.get_experiment(
                self.client.create_experiment(self.experiment, artifact_location=self._location)
            )
        except MlflowException:
            found = self.client.get_experiment_by_name(self.experiment)  # another process was quicker
            if found is None:
                raise
            return found

    def _deleted_experiment(self, found: Experiment) -> RefusedError:
        command = self._command("experiments restore --experiment-id", found.experiment_id)
        return RefusedError(
            f"The experiment {found.name!r} at {self.tracking_uri} is deleted. Bring it back by {command}, or give "
            "another --experiment."
        )

    def _command(self, words: str, name: str) -> str:
        """Return a command of MLflow's to be typed: it knows the server by the environment alone."""
        return f"`MLFLOW_TRACKING_URI={shlex.quote(self.tracking_uri)} mlflow {words} {name}`"

    def _active(self, key: str, runs: Mapping[str, str]) -> Run:
        """Return a run that takes calls.

        Raises
        ------
        RefusedError
            If it is deleted, for good or not, or has never been made on the server.
        """
        if key not in runs:
            raise RefusedError(f"The run {key!r} has not been made at {self.tracking_uri}, so it takes nothing there.")
        try:
            run = self.client.get_run(runs[key])
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise RefusedError(
                f"The run {key!r} is no more at {self.tracking_uri}: it was deleted for good there. "
                f"`{called('sync')} STUDY --again` makes it anew, with all that the study has logged."
            ) from error
        if run.info.lifecycle_stage != _DELETED:
            return run
        experiment = self.client.get_experiment(run.info.experiment_id)
        if experiment.lifecycle_stage == _DELETED:
            raise self._deleted_experiment(experiment)
        raise RefusedError(
            f"The run {key!r} at {self.tracking_uri} is deleted. Bring it back by "
            f"{self._command('runs restore --run-id', run.info.run_id)}."
        )

    def send(self, record: Record, runs: Mapping[str, str], *, again: bool) -> str | None:
        """Make a call, as :class:`~coldray.tracking.spool.Receiver`."""
        try:
            with told_apart(self.tracking_uri):
                outcome = self._sent(record, runs, again=again)
        except BrokenError as error:
            call = record.get("number"), record["time"], record["op"], record["run"]
            raise self._patience.failed(call, error, self.check_not_deleted) from error
        self._patience.worked()
        return outcome

    def _sent(self, record: Record, runs: Mapping[str, str], *, again: bool) -> str | None:
        try:
            return self._send(record, runs, again=again)
        except FileNotFoundError as error:
            what = f"{record['op']} of run {record['run']!r}"
            raise RefusedError(f"{what} cannot be logged: {error} is not there.") from error

    def check_experiment(self) -> None:
        """Find the experiment, or make it.

        Raises
        ------
        UnavailableError
            If the server does not answer now.
        RefusedError
            If the experiment is deleted, or the server takes none.
        """
        with told_apart(self.tracking_uri):
            _ = self.experiment_id

    def _database_file(self) -> tuple[int, int] | None:
        """Return which file the database is, whatever it is called; None where there is none."""
        path = database_path(self.tracking_uri)
        if path is None or not path.exists():
            return None
        return path.stat().st_dev, path.stat().st_ino

    def _check_same_file(self) -> None:
        """Refuse to write to a database file that has been deleted: sqlite would, and nobody could read it."""
        if self._client is not None and self._opened_file != self._database_file():
            raise RefusedError(
                f"The database {self.tracking_uri} was deleted or replaced while this process had it open. "
                f"`{called('sync')} STUDY --again` sends all that the study has logged into the one that is there."
            )

    def _send(self, record: Record, runs: Mapping[str, str], *, again: bool) -> str | None:
        self._check_same_file()
        if record["op"] == "run":
            return self._run(record, runs, again=again)
        if record["op"] == "model":
            self._active(record["run"], runs)
            with active_server(self.tracking_uri):
                return self._model(record, runs, again=again)
        if record["run"] not in runs or record["op"] == "file":  # the store of files does not know of deleted runs
            self._active(record["run"], runs)
        try:
            self._calls[record["op"]](record, runs)
        except MlflowException as error:
            if error.error_code not in AWAY:
                self._active(record["run"], runs)  # tells whether it is deleted
            raise
        return None

    def _run(self, record: Record, runs: Mapping[str, str], *, again: bool) -> str:
        tags = self._resolved(record["tags"], runs)
        if record.get("parent"):
            parent = self._active(record["parent"], runs)
            tags[PARENT_TAG], experiment = parent.info.run_id, parent.info.experiment_id
        else:
            experiment = self.experiment_id
        if again:
            query = f"tags.`{KEY_TAG}` = '{record['run']}'"
            found = self.client.search_runs([experiment], query, run_view_type=ViewType.ALL)
            if found:
                run = self._active(record["run"], {record["run"]: found[0].info.run_id})
                if run.data.tags.get(PARENT_TAG) != tags.get(PARENT_TAG):  # that has been made anew
                    self.client.set_tag(run.info.run_id, PARENT_TAG, tags[PARENT_TAG])
                return str(run.info.run_id)
        tags[KEY_TAG] = record["run"]
        try:
            run = self.client.create_run(experiment, start_time=record["time"], tags=tags, run_name=record["name"])
        except MlflowException as error:
            if error.error_code not in AWAY:
                self._check_active(experiment)
            raise
        return str(run.info.run_id)

    def _check_active(self, experiment: str) -> None:
        found = self.client.get_experiment(experiment)
        if found.lifecycle_stage == _DELETED:
            raise self._deleted_experiment(found)

    def _log(self, record: Record, runs: Mapping[str, str]) -> None:
        self.client.log_batch(
            runs[record["run"]],
            metrics=[Metric(*values) for values in record.get("metrics", ())],
            params=[Param(name, value) for name, value in record.get("params", {}).items()],
            tags=[RunTag(*pair) for pair in self._resolved(record.get("tags", {}), runs).items()],
        )

    def _resolved(self, tags: Mapping[str, Any], runs: Mapping[str, str]) -> dict[str, str]:
        links = {name: value["run"] for name, value in tags.items() if isinstance(value, dict)}
        for key in links.values():
            if key not in runs:
                self._active(key, runs)
        return {name: runs[links[name]] if name in links else str(value) for name, value in tags.items()}

    def _dataset(self, record: Record, runs: Mapping[str, str]) -> None:
        context = InputTag("mlflow.data.context", "training and evaluation")
        self.client.log_inputs(runs[record["run"]], [DatasetInput(Dataset(**record["dataset"]), [context])])

    def _file(self, record: Record, runs: Mapping[str, str]) -> None:
        self.client.log_artifact(runs[record["run"]], record["path"], record["folder"])

    def _status(self, record: Record, runs: Mapping[str, str]) -> None:
        if record["status"] == OPEN_STATUS:
            self.client.update_run(runs[record["run"]], status=OPEN_STATUS)
        else:
            self.client.set_terminated(runs[record["run"]], record["status"], end_time=record["time"])

    def _model(self, record: Record, runs: Mapping[str, str], *, again: bool) -> str:
        """Log a bundle as a model, register it and give it the alias that it has earned; return the version."""
        run_id, name = runs[record["run"]], record["name"]
        registered = self.client.search_registered_models(f"name = '{name}'")
        of_run = f"name = '{name}' and run_id = '{run_id}'"
        made = self.client.search_model_versions(of_run) if registered and again else []
        if made:
            version = str(max(int(found.version) for found in made))
        else:
            model_uri, model_id = self._logged(run_id, Path(record["bundle"]), record["ids"])
            if not registered:
                self.client.create_registered_model(name)
            tags = version_tags(Path(record["bundle"]) / "manifest.json")
            version = str(self.client.create_model_version(name, model_uri, run_id, tags, model_id=model_id).version)
        self.placements[record.get("number", -1)] = place(self.client, name, version, record.get("promotion"))
        return version

    def _logged(self, run_id: str, bundle: Path, ids: tuple[str, str]) -> tuple[str, str | None]:
        if not bundle.is_dir():
            raise FileNotFoundError(str(bundle))
        signature = _signature(
            *map(DataType.__getitem__, ids), ratings=_reads_ratings(bundle), given=_read_of_askers(bundle)
        )
        with warnings.catch_warnings():
            # An example would be scored while logging; the signature says all it would.
            warnings.filterwarnings("ignore", ".*An input example was not provided", UserWarning)
            with mlflow.start_run(run_id=run_id):
                info = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(pyfunc_path()),
                    artifacts={"bundle": bundle.absolute().as_uri()},
                    signature=signature,
                    pip_requirements=[f"coldray=={__version__}", *_package_of(bundle)],
                )
        return str(info.model_uri), info.model_id


@contextmanager
def active_server(uri: str) -> Iterator[None]:
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


def _package_of(bundle: Path) -> list[str]:
    """Return the requirement of the package that the model of a bundle is of, unless it is one of our own."""
    package = json.loads((bundle / "manifest.json").read_text(encoding="utf-8")).get("package")
    return [] if package is None else [package.replace(" ", "==")]


def _reads_ratings(bundle: Path) -> bool:
    """Tell whether the model of a bundle reads ratings, without a second of imports: it has those of its users then."""
    try:
        return RATINGS in pq.read_schema(bundle / _USERS).names
    except pa.ArrowInvalid as error:
        raise RefusedError(f"The bundle {bundle} cannot be logged: its {_USERS} is damaged ({error}).") from error


def _read_of_askers(bundle: Path) -> list[str]:
    """Return the columns of dicts that the model of a bundle reads: of attributes of users, and of moments."""
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    described = manifest.get("people", {}).get("methods")
    return [*(["user_attributes"] if described else []), *(["context"] if "moments" in manifest else [])]


def _signature(user_id: DataType, item_id: DataType, *, ratings: bool, given: Sequence[str]) -> ModelSignature:
    """Return what the model takes: users or histories, see :class:`~coldray.bundle.pyfunc.BundleModel`."""
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(user_id, "user_id", required=False),
        ColSpec(Array(item_id), "history", required=False),
    ]
    if ratings:
        columns.append(ColSpec(Array(DataType.double), "ratings", required=False))
    # Of dicts the model checks the kinds, and tells the nearest name of one that is misspelt.
    columns += [ColSpec(AnyType(), name, required=False) for name in given]  # type: ignore[no-untyped-call]
    return ModelSignature(inputs=Schema(columns), params=ParamSchema([ParameterSpec("k", DataType.integer, 10)]))
