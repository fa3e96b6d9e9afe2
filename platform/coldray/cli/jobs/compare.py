"""The comparison job: source → dataset → studies tuned and tested → report, bundle and registry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from coldray.cli.devices import check_this_process, check_workers
from coldray.cli.jobs.tune import (
    Publication,
    bundle_manifest,
    check_servers,
    print_next_steps,
    read_data,
    register_winner,
    registered_name,
    settings_of,
    tracking,
)
from coldray.cli.options.studies import ComparisonOptions, RegisteredRunOptions
from coldray.cli.progress.ablation import AblationProgress
from coldray.cli.progress.comparison import EntryProgress
from coldray.cli.progress.study import StudyProgress
from coldray.cli.promotion import decide
from coldray.cli.ray.cluster import connected_ray
from coldray.cli.texts import encode_texts
from coldray.core.errors import ColdrayError
from coldray.core.files import writable_folder
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
from coldray.experiments.prepared import PreparedStudy
from coldray.experiments.record.folder import StudyIdentity, open_study
from coldray.experiments.results import StudyResult
from coldray.reports.comparison.report import comparison_report
from coldray.reports.console import terminal
from coldray.reports.export import export, write_page
from coldray.reports.report import PAGE
from coldray.reports.study.report import study_report
from coldray.tracking.comparison_runs import ComparisonTracker


def compare(options: ComparisonOptions, console: Console) -> ComparisonResult | None:
    """Run the job of ``jobs/compare_models.py`` or ``jobs/tune_coldstart.py``.

    Everything that can be wrong is checked before anything takes long.

    Returns
    -------
    ComparisonResult or None
        None where it was written before, and the bundle alone was left to be made.
    """
    comparison = load_comparison(options.file, options.settings, trials=options.trials, models=options.entries)
    with AblationProgress(console) as progress, writable_folder(options.output):
        check_servers(options)
        source = options.source_for(comparison.config.data)
        dataset, published = read_data(source, comparison.config, progress)
        checked = check_comparison(comparison, dataset, progress, published)
        for study in checked.studies.values():
            check_this_process(study.config)
        result, folder = run_and_publish(comparison, checked, options, progress)
    console.print()
    if result is not None:
        console.print(terminal(comparison_report(result)))
    print_next_steps(console, folder / PAGE, options, source)
    return result


def run_and_publish(
    comparison: Comparison, checked: Checked, options: RegisteredRunOptions, progress: StudyProgress
) -> tuple[ComparisonResult | None, Path]:
    """Run a comparison that has been checked; return its result, and the folder of what was written.

    The result is None where all of it was written before, and the bundle alone was left to be made.
    """
    name, dataset = comparison.config.name, checked.dataset
    identity = StudyIdentity("comparison", name, dataset.name, dataset.fingerprint, _comparison_settings(comparison))
    with (
        open_study(
            options.output, identity, resume=options.resume, command=options.command, say=progress.stage
        ) as folder,
        connected_ray(options.ray_address, options.cpus, progress),
        tracking(ComparisonTracker, folder, options, progress) as tracker,
    ):
        checked = _encode_entries(comparison, checked, progress)
        usable = [entry for entry in comparison.entries if entry.name in checked.studies]
        protocol = comparison_protocol(comparison, checked)
        progress.show_dataset(folder.id, dataset)

        def listener_of(entry: Entry) -> StudyListener:
            place = f"{usable.index(entry) + 1}/{len(usable)}"
            return Listeners(EntryProgress(progress.console, place, entry.track), tracker.of_entry(entry))

        for entry in usable:
            check_workers(entry.study)
        place = Publication(
            options.output / folder.id, registered_name(options.model_name, dataset.name, name), tracker, progress
        )
        tracker.comparison_started(comparison, dataset, folder.id, protocol)
        record = folder.record()
        if record.published:
            entry = _entry_of(comparison, record.champion)
            progress.stage(f"the report is written and logged: the bundle of {entry.name} alone is left to be made")
            chosen = checked.study(entry.name)
            study = tested_before(chosen, folder.record(entry.name), progress)
            promotion = decide(options, place.model_name, chosen, study, progress, record.promotion)
            if promotion != record.promotion:
                progress.stage("note: the report shows what was decided before")
            _register_champion(chosen, replace(study, promotion=promotion), entry, comparison, place)
            return None, place.folder
        result = run_comparison(
            comparison,
            checked,
            comparison_id=folder.id,
            protocol=protocol,
            record_of=lambda entry: folder.record(entry.name),
            listener=progress,
            listener_of=listener_of,
        )
        # The entry chosen on validation data is held against the champion of the registry, on the same test folds.
        chosen, study = checked.study(result.champion), result.entry(result.champion).study
        promotion = decide(options, place.model_name, chosen, study, progress)
        result, study = replace(result, promotion=promotion), replace(study, promotion=promotion)
        _publish(result, place.folder, tracker, progress)
        record.was_published(result.champion, promotion)
        _register_champion(chosen, study, _entry_of(comparison, result.champion), comparison, place)
    return result, place.folder


def _entry_of(comparison: Comparison, name: str) -> Entry:
    (entry,) = (one for one in comparison.entries if one.name == name)
    return entry


def _comparison_settings(comparison: Comparison) -> dict[str, Any]:
    """Return all of a comparison that its results depend on."""
    entries = {entry.name: settings_of(entry.study) for entry in comparison.entries}
    return {"comparison": comparison.config.model_dump(mode="json"), "entries": entries}


def _encode_entries(comparison: Comparison, checked: Checked, progress: StudyProgress) -> Checked:
    """Embed the texts of every entry that reads them; one whose sentence model is not there is among the failed."""
    failed, studies = list(checked.failed), dict(checked.studies)
    for entry in comparison.entries:
        if entry.name not in studies:
            continue
        try:
            encode_texts(studies[entry.name], progress)
        except ColdrayError as error:
            failed.append(failed_entry(entry, error, progress))
            del studies[entry.name]
    return replace(checked, studies=studies, failed=tuple(failed))


def _publish(result: ComparisonResult, folder: Path, tracker: ComparisonTracker, progress: StudyProgress) -> None:
    """Write the export and a report of each study to `folder`, and log them."""
    progress.stage("drawing figures and writing the report")
    files = export(comparison_report(result), folder)
    reports = {}
    for entry in result.entries:
        progress.stage(f"writing the report of {entry.name}")
        reports[entry.name] = write_page(study_report(entry.study), folder / "studies" / entry.name / PAGE)
    tracker.log_comparison(result, [files.archive, *files.written], reports)


def _register_champion(
    study: PreparedStudy, result: StudyResult, champion: Entry, comparison: Comparison, to: Publication
) -> None:
    """Make a bundle of the champion, and register it."""
    compared = {"name": comparison.config.name, "champion": champion.name, "track": champion.track}
    register_winner(study, result, to, {**bundle_manifest(result), "comparison": compared})
