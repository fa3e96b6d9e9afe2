"""The tuning job: source → dataset → study → report, bundle and registry."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from mlflow.types import DataType
from rich.console import Console

from coldray.bundle.fit import fit_on_worker
from coldray.bundle.people import OfAskers
from coldray.cli.devices import check_this_process, check_workers
from coldray.cli.lines import from_here, other_command, tool, typed, with_option
from coldray.cli.options.studies import JobOptions, RegisteredRunOptions, RunOptions, StudyOptions
from coldray.cli.progress.study import StudyProgress
from coldray.cli.promotion import decide
from coldray.cli.ray.address import usable_address
from coldray.cli.ray.cluster import connected_ray
from coldray.cli.texts import encode_texts
from coldray.core.errors import ConfigError
from coldray.core.files import writable_folder
from coldray.core.masking import masked
from coldray.data.dataset import Dataset, Ids
from coldray.data.filters import FilterConfig
from coldray.data.sources.registry import SourceConfig, load_filtered, load_predefined
from coldray.data.splits.published import PredefinedSplit
from coldray.experiments.comparison.config import ComparisonConfig
from coldray.experiments.listeners import Listeners
from coldray.experiments.prepared import PreparedStudy
from coldray.experiments.promotion.outcome import Promotion
from coldray.experiments.record.folder import StudyFolder, StudyIdentity, open_study
from coldray.experiments.record.record import StudyRecord
from coldray.experiments.results import StudyResult, mean_metric
from coldray.experiments.space import StudyConfig, load_study
from coldray.experiments.study import prepare_study, run_study
from coldray.models.registry import NETWORKS
from coldray.reports.console import terminal
from coldray.reports.export import write_files
from coldray.reports.labels import counted
from coldray.reports.report import PAGE
from coldray.reports.study.report import study_report
from coldray.tracking.access import check_reachable
from coldray.tracking.database import quiet_libraries
from coldray.tracking.receiver import UnavailableError
from coldray.tracking.runs import StudyTracker, check_experiment

TrackerT = TypeVar("TrackerT", bound=StudyTracker)


def tune(options: StudyOptions, console: Console) -> StudyResult:
    """Run the job.

    Everything that can be wrong is checked before anything takes long.
    """
    config = load_study(options.file, options.settings)
    check_budget(config, options.settings)
    check_this_process(config)
    progress = StudyProgress(console)
    with writable_folder(options.output):
        check_servers(options)
        source = options.source_for(config.data)
        dataset, published = read_data(source, config, progress)
        study = prepare_study(config, dataset, published)
        result, folder = search_and_publish(study, options, progress)
    console.print()
    console.print(terminal(study_report(result)))
    print_next_steps(console, folder / PAGE, options, source, "ml-100k" if config.model in NETWORKS else "hetrec")
    return result


def check_budget(config: StudyConfig, settings: Mapping[str, Any]) -> None:
    """Find out whether a study tries no more than `settings`, of which it was made, ask for.

    Raises
    ------
    ConfigError
        If it lists more configurations than ``search.trials`` of the settings.
    """
    trials = settings.get("search.trials")
    if config.enumerated and trials is not None and config.n_trials > int(trials):
        raise ConfigError(
            f"search.trials={trials}: {config.name} lists its {config.n_trials} configurations, a grid, and would try "
            f"all of them. Ask for so many of its points: --set search.points={trials}."
        )


def read_data(
    source: SourceConfig, config: StudyConfig | ComparisonConfig, progress: StudyProgress
) -> tuple[Dataset, PredefinedSplit | None]:
    """Return the dataset of a study or comparison, and the split it is published with if that is asked for.

    Raises
    ------
    ConfigError
        If a published split is asked for and there is none, or filters leave something out: they would change it.
    DataError
        If the files are missing or malformed.
    """
    if config.splits.protocol != "predefined":
        return read_dataset(source, config, progress), None
    if config.filters not in (None, FilterConfig()):  # what keeps everything changes nothing
        raise ConfigError(
            "filters: a published split is taken as it is, so that its figures compare. Leave them out, or draw a "
            "split (splits.protocol)."
        )
    progress.stage(f"reading the published split of {source.category or source.name}")
    published = load_predefined(source, config.splits.name)
    tell_notes(published.dataset, progress.stage)
    return published.dataset, published


def read_dataset(source: SourceConfig, config: StudyConfig | ComparisonConfig, progress: StudyProgress) -> Dataset:
    """Return the dataset of a job, filtered as the study asks or as its published protocol does."""
    progress.stage(f"reading the dataset {source.name}")
    dataset = load_filtered(source, config.filters)
    tell_notes(dataset, progress.stage)
    return dataset


def tell_notes(dataset: Dataset, say: Callable[[str], None]) -> None:
    """Say what is to be known of how a dataset was read."""
    for note in dataset.notes:
        say(f"note: {note}")


def search_and_publish(
    study: PreparedStudy, options: RegisteredRunOptions, progress: StudyProgress
) -> tuple[StudyResult, Path]:
    """Run a study that has been checked; return its result, and the folder of what was written."""
    config, dataset, output = study.written, study.dataset, options.output
    identity = StudyIdentity("study", config.name, dataset.name, dataset.fingerprint, settings_of(config))
    with (
        open_study(output, identity, resume=options.resume, command=options.command, say=progress.stage) as folder,
        connected_ray(options.ray_address, options.cpus, progress),
        tracking(StudyTracker, folder, options, progress) as tracker,
    ):
        check_workers(config)
        encode_texts(study, progress)
        record, listener = folder.record(), Listeners(progress, tracker)
        result = run_study(study, study_id=folder.id, record=record, listener=listener)
        record.stage("report, bundle and registry")
        name = registered_name(options.model_name, dataset.name, config.model)
        promotion = decide(options, name, study, result, progress, record.promotion)
        result = replace(result, promotion=promotion)
        publish(study, result, Publication(output / folder.id, name, tracker, progress), record)
        record.finished()
    return result, output / folder.id


def settings_of(config: StudyConfig) -> dict[str, Any]:
    """Return all of a study file that its results depend on: what failures cost may change when it goes on."""
    settings = config.model_dump(mode="json", exclude={"failures"})
    return {**settings, "files": digests} if (digests := config.splits.digests()) else settings


def check_servers(options: RunOptions) -> None:
    """Find out now whether the cluster and the tracking server answer, and the latter has the experiment.

    Raises
    ------
    ClusterError
        If no cluster answers at the address, or no job can be run by it.
    TrackingError
        If it does not, or the experiment is deleted.
    """
    quiet_libraries()
    usable_address(options.ray_address)
    if options.offline:
        return
    with suppress(UnavailableError):  # a database that is locked for a moment: what is to be logged is kept
        check_reachable(options.tracking_uri)
        check_experiment(options.tracking_uri, options.experiment)


@contextmanager
def tracking(
    kind: type[TrackerT],
    folder: StudyFolder,
    options: RunOptions,
    progress: StudyProgress,
    part: str = "",
) -> Iterator[TrackerT]:
    """Open the tracker of a study, or of a part of it, and close it; say what the server has not taken.

    What it has refused is added to ``options.unsent``: the job ends with an exit status of its own then.
    """
    told = "kept in its folder: --offline" if options.offline else f"sent to {options.tracking_uri}"
    progress.stage(f"what the study logs is {told}")
    tracker = kind(
        options.tracking_uri,
        options.experiment,
        artifact_location=options.output.parent / "mlartifacts",
        path=folder.path / part / folder.tracking.name,
        offline=options.offline,
        say=progress.stage,
    )
    try:
        with tracker:
            yield tracker
    finally:
        left, missing = tracker.spool.waiting, tracker.spool.missing()
        if left:
            server = ("--tracking-uri", options.tracking_uri, "--experiment", options.experiment)
            progress.stage(
                f"{counted(left, 'call')} on the tracking server wait in {from_here(tracker.spool.path)}; send them by "
                + _sync_command(folder.id, options.output, *server)
            )
        if missing:
            options.unsent.append(missing)
            progress.stage(missing)


def _sync_command(study: str, output: Path, *options: str) -> str:
    """Return what sends the calls of a study that wait, as it is typed; passwords in it are masked."""
    shown = map(masked, options)
    return typed(*other_command("sync"), study, "--output-dir", from_here(output), *shown)


def registered_name(given: str | None, dataset: str, what: str) -> str:
    """Return the name in the registry: the one given, or ``coldray-`` with the names of a dataset and of a model.

    Characters in which MLflow or a URL would read something become ``-``.
    """
    return given or re.sub(r"(?:[^\w.]|_)+", "-", f"coldray-{dataset}-{what}").strip("-.")


@dataclass(frozen=True)
class Publication:
    """Where what a study found goes."""

    folder: Path
    model_name: str
    tracker: StudyTracker
    progress: StudyProgress


def publish(study: PreparedStudy, result: StudyResult, to: Publication, record: StudyRecord) -> None:
    """Write figures, report and bundle to a folder, log them, and register the winner as what it was found to be.

    What was found is written, logged and recorded before the bundle's fit begins: one that dies costs the bundle alone.
    """
    folder, progress = to.folder, to.progress
    if record.published and record.promotion == result.promotion:
        progress.stage(f"the report {folder / PAGE} is written and logged: the bundle alone is left to be made")
    else:
        progress.stage("drawing figures and writing the report")
        to.tracker.finish(result, write_files(study_report(result), folder))
        record.was_published(promotion=result.promotion)
    register_winner(study, result, to, bundle_manifest(result))


def register_winner(study: PreparedStudy, result: StudyResult, to: Publication, manifest: Mapping[str, object]) -> None:
    """Fit the winner of a study on all interactions, and register it as what it was found to be."""
    config, dataset, path, progress = study.config, study.dataset, to.folder / "bundle", to.progress
    progress.stage("fitting the winner on all interactions for the bundle")
    winner = config.configured(result.selection.winner.config)
    gpus = config.search.gpus_per_trial if config.fit.workers == 1 else 0.0
    notes = fit_on_worker(
        winner,
        dataset,
        config.features,
        manifest,
        path,
        Listeners(progress, to.tracker).training_of,
        fit=config.fit,
        even=config.candidates == "cold",
        gpus=gpus,
        askers=OfAskers(config.user_features, config.moment_features),
    )
    for note in notes:
        progress.stage(f"note: {note}")
    types = (_id_type(dataset.user_ids), _id_type(dataset.item_ids))
    promotion = result.promotion or Promotion("if-better", "champion", "it was held against no champion", asked=False)
    placed = to.tracker.register(path, types, to.model_name, promotion)
    if placed is None:
        progress.stage(f"{to.model_name} is registered when the tracking server has been told; the bundle is {path}")
    else:
        progress.stage(placed.words)


def bundle_manifest(result: StudyResult) -> dict[str, object]:
    """Return the facts a bundle carries about the study it comes from."""
    names = result.test[0].metrics
    return {
        "dataset": dict(result.dataset),
        "protocol": dict(result.protocol),
        "forms": [asdict(form) for form in result.forms],
        "trained_on": "all interactions of the dataset",
        "notes": list(result.notes),
        "metrics": {
            "measured_on": f"the test {result.held_out} of each split, by models fitted on its train part alone",
            **{name: mean_metric(result.test, name) for name in names},
        },
    }


def _id_type(ids: Ids) -> DataType:
    """Return the MLflow type of external ids."""
    return DataType.string if ids.dtype.kind == "U" else DataType.long


def print_next_steps(
    console: Console, report: Path, options: JobOptions, source: SourceConfig, real_data: str = "hetrec"
) -> None:
    """Say where the report is and what to type next: on the sample, the same job on real data."""
    console.print(f"Report: {from_here(report)}", soft_wrap=True, highlight=False, markup=False)
    console.print("Next:", highlight=False)
    local = options.tracking_uri.startswith("sqlite")
    interface = typed(tool("mlflow"), "ui", "--backend-store-uri", options.tracking_uri, "--port", "5000")
    steps = [interface if local else f"compare the trials at {masked(options.tracking_uri)}"]
    bundle = report.parent / "bundle"
    if bundle.is_dir():
        steps.append(typed(*other_command("serve"), "--bundle", from_here(bundle)))
    if source.name == "sample":
        steps.append(" ".join(with_option(options.command, "--dataset", real_data)))
    for step in steps:
        console.print(f"  {step}", soft_wrap=True, highlight=False, markup=False)
