"""The comparison job: source → dataset → studies tuned and tested → report, bundle and registry."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from coldray.cli.arguments import overrides, source_of
from coldray.cli.devices import check_this_process, check_workers
from coldray.cli.jobs.tune import (
    bundle_manifest,
    check_tracking,
    print_next_steps,
    read_dataset,
    register_winner,
    registered_name,
    settings_of,
    tracking,
)
from coldray.cli.progress.ablation import AblationProgress
from coldray.cli.progress.comparison import EntryProgress
from coldray.cli.progress.study import StudyProgress
from coldray.cli.promotion import decide
from coldray.cli.ray.cluster import connected_ray
from coldray.cli.texts import encode_texts
from coldray.core.errors import ColdrayError
from coldray.core.files import writable_folder
from coldray.data.dataset import Dataset
from coldray.experiments.comparison.config import Comparison, Entry, load_comparison
from coldray.experiments.comparison.result import ComparisonResult
from coldray.experiments.comparison.run import (
    Checked,
    check_comparison,
    comparison_protocol,
    failed_entry,
    run_comparison,
    tested_before,
)
from coldray.experiments.listeners import Listeners, StudyListener
from coldray.experiments.promotion.outcome import Promotion
from coldray.experiments.record.folder import StudyIdentity, open_study
from coldray.experiments.results import StudyResult
from coldray.reports.comparison.console import console_comparison
from coldray.reports.comparison.report import export_comparison
from coldray.reports.report import write_report
from coldray.tracking.comparison_runs import ComparisonTracker


def compare(options: argparse.Namespace, console: Console, job: str) -> ComparisonResult | None:
    """Run the job that the options of ``jobs/compare_models.py`` or ``jobs/tune_coldstart.py`` describe.

    Everything that can be wrong is checked before anything takes long.

    Returns
    -------
    ComparisonResult or None
        None where it was written before, and the bundle alone was left to be made.
    """
    comparison = load_comparison(
        options.comparison, overrides(options.settings), trials=options.trials, models=options.models
    )
    source = source_of(options)
    output = options.output_dir.absolute()
    with AblationProgress(console) as progress, writable_folder(output):
        check_tracking(options)
        dataset = read_dataset(source, comparison.config, progress)
        checked = check_comparison(comparison, dataset, progress)
        unusable = {failed.name for failed in checked.failed}
        for entry in comparison.entries:
            if entry.name not in unusable:
                check_this_process(entry.study)
        result, folder = _run_and_publish(comparison, dataset, checked, output, options, progress)
    console.print()
    if result is not None:
        console.print(console_comparison(result))
    print_next_steps(console, folder / "report.html", options, job)
    return result


def _run_and_publish(
    comparison: Comparison,
    dataset: Dataset,
    checked: Checked,
    output: Path,
    options: argparse.Namespace,
    progress: StudyProgress,
) -> tuple[ComparisonResult | None, Path]:
    """Run a comparison that has been checked; return its result, and the folder of what was written."""
    name = comparison.config.name
    identity = StudyIdentity("comparison", name, dataset.name, dataset.fingerprint, comparison_settings(comparison))
    with (
        open_study(output, identity, resume=options.resume, command=options.command, say=progress.stage) as folder,
        connected_ray(options.ray_address, options.cpus, progress),
        tracking(ComparisonTracker, folder, options, progress) as tracker,
    ):
        checked = encode_entries(comparison, dataset, checked, progress)
        usable = [entry for entry in comparison.entries if entry.name not in {failed.name for failed in checked.failed}]
        protocol = comparison_protocol(comparison, dataset, checked.splits)
        progress.show_dataset(folder.id, dataset)

        def listener_of(entry: Entry) -> StudyListener:
            place = f"{usable.index(entry) + 1}/{len(usable)}"
            return Listeners(EntryProgress(progress.console, place, entry.track), tracker.of_entry(entry))

        for entry in usable:
            check_workers(entry.study)
        tracker.comparison_started(comparison, dataset, folder.id, protocol)
        record = folder.record()
        if record.published:
            entry = _entry_of(comparison, record.champion)
            progress.stage(f"the report is written and logged: the bundle of {entry.name} alone is left to be made")
            study = tested_before(entry, dataset, checked.splits, folder.record(entry.name), progress)
            study = replace(study, promotion=record.promotion)
            register_champion(study, entry, comparison, dataset, output / folder.id, tracker, progress, options)
            return None, output / folder.id
        result = run_comparison(
            comparison,
            dataset,
            checked,
            comparison_id=folder.id,
            protocol=protocol,
            record_of=lambda entry: folder.record(entry.name),
            listener=progress,
            listener_of=listener_of,
        )
        result = replace(result, promotion=_promotion(result, comparison, dataset, checked, options, progress))
        publish(result, output / folder.id, tracker, progress)
        record.was_published(result.champion, result.promotion)
        study = replace(result.entry(result.champion).study, promotion=result.promotion)
        entry = _entry_of(comparison, result.champion)
        register_champion(study, entry, comparison, dataset, output / folder.id, tracker, progress, options)
    return result, output / folder.id


def _promotion(
    result: ComparisonResult,
    comparison: Comparison,
    dataset: Dataset,
    checked: Checked,
    options: argparse.Namespace,
    progress: StudyProgress,
) -> Promotion:
    """Hold the entry chosen on validation data against the champion of the registry, on the same test folds."""
    name = registered_name(options.model_name, dataset.name, result.name)
    config = _entry_of(comparison, result.champion).study
    study = result.entry(result.champion).study
    return decide(options, name, study, config, dataset, checked.splits, progress)


def _entry_of(comparison: Comparison, name: str) -> Entry:
    (entry,) = (one for one in comparison.entries if one.name == name)
    return entry


def comparison_settings(comparison: Comparison) -> dict[str, Any]:
    """Return all of a comparison that its results depend on."""
    entries = {entry.name: settings_of(entry.study) for entry in comparison.entries}
    return {"comparison": comparison.config.model_dump(mode="json"), "entries": entries}


def encode_entries(comparison: Comparison, dataset: Dataset, checked: Checked, progress: StudyProgress) -> Checked:
    """Embed the texts of every entry that reads them; one whose sentence model is not there is among the failed."""
    failed = list(checked.failed)
    for entry in comparison.entries:
        if entry.name in {known.name for known in checked.failed}:
            continue
        try:
            encode_texts(entry.study, dataset, progress)
        except ColdrayError as error:
            failed.append(failed_entry(entry, error, progress))
    return replace(checked, failed=tuple(failed))


def publish(result: ComparisonResult, folder: Path, tracker: ComparisonTracker, progress: StudyProgress) -> None:
    """Write the export and a report of each study to `folder`, and log them."""
    progress.stage("drawing figures and writing the report")
    files = export_comparison(result, folder)
    reports = {}
    for entry in result.entries:
        progress.stage(f"writing the report of {entry.name}")
        reports[entry.name] = write_report(entry.study, folder / "studies" / entry.name / "report.html")
    tracker.log_comparison(result, [files.archive, *files.written], reports)


def register_champion(
    study: StudyResult,
    champion: Entry,
    comparison: Comparison,
    dataset: Dataset,
    folder: Path,
    tracker: ComparisonTracker,
    progress: StudyProgress,
    options: argparse.Namespace,
) -> None:
    """Make a bundle of the champion, and register it."""
    compared = {"name": comparison.config.name, "champion": champion.name, "track": champion.track}
    manifest = {**bundle_manifest(study), "comparison": compared}
    name = registered_name(options.model_name, dataset.name, comparison.config.name)
    register_winner(study, champion.study, dataset, folder, tracker, progress, name, manifest)
