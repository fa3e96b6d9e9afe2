"""A study from a notebook: searched, tested, and fitted on everything."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from coldray.bundle.io import load_bundle
from coldray.bundle.model import Bundle
from coldray.cli.jobs.tune import check_budget, check_servers, search_and_publish
from coldray.cli.options.studies import RegisteredRunOptions
from coldray.cli.progress.study import StudyProgress
from coldray.core.environment import variable
from coldray.core.files import writable_folder
from coldray.core.notebook import facts_html
from coldray.core.study_files import named_file
from coldray.data.dataset import Dataset
from coldray.experiments.results import StudyResult, mean_metric
from coldray.experiments.settings import replace_settings
from coldray.experiments.space import StudyConfig, load_study
from coldray.experiments.study import prepare_study
from coldray.front.configs import validated
from coldray.reports.report import PAGE

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Study:
    """A finished study: its trials, its one test, and the winner fitted on all interactions."""

    result: StudyResult
    folder: Path
    """Where its report, figures and bundle are."""
    unsent: tuple[str, ...] = ()
    """What the tracking server has refused, in words; it is kept in the folder."""

    @cached_property
    def winner(self) -> Bundle:
        """The winner, fitted on all interactions of the dataset."""
        return load_bundle(self.folder / "bundle")

    @property
    def config(self) -> Mapping[str, Any]:
        """Parameters of the winner, by name."""
        return self.result.selection.winner.config

    @property
    def test(self) -> dict[str, float]:
        """Mean test metrics of the winner over the splits, by name."""
        return {name: mean_metric(self.result.test, name) for name in self.result.test[0].metrics}

    @property
    def report(self) -> Path:
        """The report, an HTML page."""
        return self.folder / PAGE

    @property
    def trials(self) -> pl.DataFrame:
        """A row a trial, in order: ``trial``, ``status``, the selection metric on validation, and its parameters."""
        metric = self.result.selection.metric
        return pl.DataFrame(
            [
                {
                    "trial": one.number,
                    "status": one.status,
                    metric: one.mean(metric) if one.folds else None,
                    **one.config,
                }
                for one in sorted(self.result.trials, key=lambda one: one.number)
            ],
            strict=False,
            infer_schema_length=None,
        )

    def __repr__(self) -> str:
        selection = self.result.selection
        tested = f"{self.test[selection.metric]:.4f} on test"
        return (
            f"Study {self.result.name}: trial {selection.winner.number} of {len(self.result.trials)} is the winner, "
            f"{selection.metric} {selection.winner.mean(selection.metric):.4f} on validation, {tested}; {self.folder}"
        )

    def _repr_html_(self) -> str:
        tested = [(f"test {name}", f"{value:.4f}") for name, value in self.test.items()]
        facts = [("trials", len(self.result.trials)), *self.config.items(), *tested, ("report", self.report)]
        return facts_html(f"Study {self.result.name}", facts, (*self.result.notes, *self.unsent))


def tune(
    study: str | Path | Mapping[str, Any] | StudyConfig,
    dataset: Dataset,
    *,
    trials: int | None = None,
    settings: Mapping[str, Any] | None = None,
    output: str | Path = "runs",
    resume: bool = True,
    tracking_uri: str | None = None,
    ray_address: str = "local",
    cpus: int | None = None,
    quiet: bool = False,
) -> Study:
    """Search on validation data, test the winner once, and fit it on everything.

    Ray is started on this machine and stopped again, unless the program is connected to it already.

    Parameters
    ----------
    study
        A model that has a study file, such as ``"kernel_align"``; the path of a study file; or the fields of one.
    trials, settings
        What takes the place of ``search.trials``, of a grid so many of its points, and of other fields of the study,
        by dotted name.
    output
        Folder of the study's own folder, with report, figures and bundle.
    resume
        Whether an unfinished study of this name on the same data goes on, and no finished trial runs again.
    tracking_uri
        MLflow server or database where runs and the winner are logged; without one all that is to be logged is kept in
        the study's folder.
    ray_address, cpus
        A cluster, or ``local`` with so many CPUs, all by default.
    quiet
        Whether nothing is said of how far the study is.

    Raises
    ------
    ConfigError
        If there is no such study, a field of it is wrong, or it does not go with the data.
    DataError
        If the data lack what the model reads.
    StudyError
        If nothing that was tried can be chosen.

    Examples
    --------
    >>> import coldray
    >>> space = {"name": "films", "model": "ease", "space": {"regularization": {"log_uniform": [10, 1000]}},
    ...          "splits": {"protocol": "holdout", "n_splits": 1}, "candidates": "all", "search": {"trials": 2}}
    >>> study = coldray.tune(space, coldray.load_dataset("sample"), quiet=True)
    >>> study.trials.height, study.winner.recommend(["user-0001"], k=3).height
    (2, 3)
    """
    budget = {} if trials is None else {"search.trials": trials, "search.points": trials}
    config = _config(study, {**budget, **(settings or {})})
    check_budget(config, settings or {})
    options = notebook_options(output, tracking_uri, ray_address, cpus, resume, "coldray.tune(…)")
    progress = StudyProgress(Console(quiet=quiet))
    with writable_folder(options.output):
        check_servers(options)
        result, path = search_and_publish(prepare_study(config, dataset), options, progress)
    return Study(result, path, told_unsent(options))


def notebook_options(
    output: str | Path, tracking_uri: str | None, ray_address: str, cpus: int | None, resume: bool, command: str
) -> RegisteredRunOptions:
    """Return where a study of a notebook runs, and where it is kept and logged."""
    return RegisteredRunOptions(
        output_dir=Path(output),
        tracking_uri=tracking_uri or variable("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db"),
        offline=tracking_uri is None,
        ray_address=ray_address,
        cpus=cpus,
        resume="" if resume else None,
        command=(command,),
    )


def told_unsent(options: RegisteredRunOptions) -> tuple[str, ...]:
    """Return what the tracking server has refused, and warn of it: a notebook has no exit status."""
    for missing in options.unsent:
        logger.warning("%s", missing)
    return tuple(options.unsent)


def _config(study: str | Path | Mapping[str, Any] | StudyConfig, settings: Mapping[str, Any]) -> StudyConfig:
    if isinstance(study, StudyConfig):
        study = study.model_dump(mode="json")
    if isinstance(study, Mapping):
        fields = deepcopy(dict(study))
        replace_settings(fields, settings)
        return validated(StudyConfig, fields)
    return load_study(named_file(study, "study"), settings)
