"""The calls of a spool, made on an MLflow tracking server."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import requests
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, ParamSchema, Schema
from mlflow.types import ParamSpec as ParameterSpec
from mlflow.types.schema import Array, TensorSpec

from coldray import __version__
from coldray.journal import Record
from coldray.tracking import pyfunc_path
from coldray.tracking.bundle import FILES, RATINGS
from coldray.tracking.spool import OPEN_STATUS, RefusedError, UnavailableError

USERS = FILES[2]
KEY_TAG, PARENT_TAG = "coldray.key", "mlflow.parentRunId"
PERMANENT = frozenset(
    {
        "BAD_REQUEST",
        "INVALID_PARAMETER_VALUE",
        "INVALID_STATE",
        "MALFORMED_REQUEST",
        "NOT_IMPLEMENTED",
        "RESOURCE_ALREADY_EXISTS",
        "RESOURCE_DOES_NOT_EXIST",
    }
)
"""Answers that the same call would get again; whatever else goes wrong may pass, such as an expired password."""
REQUEST_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
}
"""A call on a server that does not answer fails in seconds, and the spool makes it again; MLflow would take minutes, or
make a second run where an answer was lost. Files go through the server: MLflow would send clients to its store, which
need not be open to them."""


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
        for name, value in REQUEST_SETTINGS.items():
            os.environ.setdefault(name, value)
        self._client: MlflowClient | None = None
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
            self._client = MlflowClient(self.tracking_uri, self.tracking_uri)
        return self._client

    @property
    def experiment_id(self) -> str:
        """The id of the experiment, which is created when absent."""
        if self._experiment_id is None:
            found = self.client.get_experiment_by_name(self.experiment)
            self._experiment_id = (
                found.experiment_id
                if found
                else self.client.create_experiment(self.experiment, artifact_location=self._location)
            )
        return self._experiment_id

    def send(self, record: Record, runs: Mapping[str, str], *, again: bool) -> str | None:
        """Make a call, as :class:`~coldray.tracking.spool.Receiver`."""
        try:
            if record["op"] == "run":
                return self._run(record, runs, again=again)
            if record["op"] == "model":
                with _active_server(self.tracking_uri):
                    return self._model(record, runs, again=again)
            self._calls[record["op"]](record, runs)
            return None
        except MlflowException as error:
            told = f"The MLflow server at {self.tracking_uri} refused: {error.message.splitlines()[0]}"
            raise (RefusedError if error.error_code in PERMANENT else UnavailableError)(told) from error
        except (FileNotFoundError, KeyError) as error:
            raise RefusedError(
                f"{record['op']} of run {record['run']!r} cannot be logged: {error} is not there."
            ) from error
        except (requests.RequestException, OSError) as error:
            raise UnavailableError(
                f"The MLflow server at {self.tracking_uri} does not answer ({type(error).__name__})."
            ) from error

    def _run(self, record: Record, runs: Mapping[str, str], *, again: bool) -> str:
        tags = self._resolved(record["tags"], runs)
        if record.get("parent"):
            tags[PARENT_TAG] = runs[record["parent"]]
        if again:
            found = self.client.search_runs([self.experiment_id], f"tags.`{KEY_TAG}` = '{record['run']}'")
            if found:
                return str(found[0].info.run_id)
        tags[KEY_TAG] = record["run"]
        run = self.client.create_run(self.experiment_id, start_time=record["time"], tags=tags, run_name=record["name"])
        return str(run.info.run_id)

    def _log(self, record: Record, runs: Mapping[str, str]) -> None:
        self.client.log_batch(
            runs[record["run"]],
            metrics=[Metric(*values) for values in record.get("metrics", ())],
            params=[Param(name, value) for name, value in record.get("params", {}).items()],
            tags=[RunTag(*pair) for pair in self._resolved(record.get("tags", {}), runs).items()],
        )

    @staticmethod
    def _resolved(tags: Mapping[str, Any], runs: Mapping[str, str]) -> dict[str, str]:
        return {
            name: runs.get(value["run"], "") if isinstance(value, dict) else str(value) for name, value in tags.items()
        }

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
        """Log a bundle as a model, register it and move the alias to it; return the version."""
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
            version = str(self.client.create_model_version(name, model_uri, run_id=run_id, model_id=model_id).version)
        self.client.set_registered_model_alias(name, record["alias"], version)
        return version

    def _logged(self, run_id: str, bundle: Path, ids: tuple[str, str]) -> tuple[str, str | None]:
        if not bundle.is_dir():
            raise FileNotFoundError(str(bundle))
        signature = _signature(*map(DataType.__getitem__, ids), ratings=_reads_ratings(bundle))
        with warnings.catch_warnings():
            # An example would be scored while logging; the signature says all it would.
            warnings.filterwarnings("ignore", ".*An input example was not provided", UserWarning)
            with mlflow.start_run(run_id=run_id):
                info = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(pyfunc_path()),
                    artifacts={"bundle": str(bundle)},
                    signature=signature,
                    pip_requirements=[f"coldray=={__version__}"],
                )
        return str(info.model_uri), info.model_id


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


def _reads_ratings(bundle: Path) -> bool:
    """Tell whether the model of a bundle reads ratings, without a second of imports: it has those of its users then."""
    try:
        return RATINGS in pq.read_schema(bundle / USERS).names
    except pa.ArrowInvalid as error:
        raise RefusedError(f"The bundle {bundle} cannot be logged: its {USERS} is damaged ({error}).") from error


def _signature(user_id: DataType, item_id: DataType, *, ratings: bool) -> ModelSignature:
    """Return what the model takes: users or histories, see :class:`~coldray.tracking.pyfunc.BundleModel`."""
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(user_id, "user_id", required=False),
        ColSpec(Array(item_id), "history", required=False),
    ]
    if ratings:
        columns.append(ColSpec(Array(DataType.double), "ratings", required=False))
    return ModelSignature(inputs=Schema(columns), params=ParamSchema([ParameterSpec("k", DataType.integer, 10)]))
