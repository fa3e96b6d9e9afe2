"""The job of one model on several categories: each is tuned on validation, and its choice refitted and tested once.

Tuning and testing are phases: the first saves its trials, and the second finds them and searches no more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from coldray.cli.devices import check_this_process, check_workers
from coldray.cli.jobs.tune import (
    Publication,
    check_servers,
    print_next_steps,
    publish,
    read_data,
    registered_name,
    settings_of,
    tracking,
)
from coldray.cli.lines import from_here
from coldray.cli.options.studies import StudyOptions
from coldray.cli.progress.study import StudyProgress
from coldray.cli.promotion import decide
from coldray.cli.ray.cluster import connected_ray
from coldray.cli.texts import encode_texts
from coldray.core.errors import BundleFitError, ColdrayError, DataError, OutputError, SearchInterruptedError, StudyError
from coldray.core.files import replacing, writable_folder
from coldray.data.dataset import Dataset
from coldray.data.sources.amazon.categories import category_sources
from coldray.data.sources.amazon.layout import file_stem
from coldray.experiments.categories import CategoryResults
from coldray.experiments.forms.settled import Settled
from coldray.experiments.listeners import Listeners
from coldray.experiments.prepared import PreparedStudy
from coldray.experiments.record.folder import StudyFolder, StudyIdentity, open_study
from coldray.experiments.record.saved_search import load_search, save_search
from coldray.experiments.record.saved_study import SavedStudy, read_study, save_study
from coldray.experiments.record.tested import Tested
from coldray.experiments.results import StudyResult
from coldray.experiments.search.run import SearchOutcome, search
from coldray.experiments.selection import select
from coldray.experiments.space import StudyConfig, load_study
from coldray.experiments.study import begin_study, finish_study, prepare_study, study_result
from coldray.reports.categories.report import FINAL, category_report, tuning_table
from coldray.reports.console import terminal
from coldray.reports.export import write_files, write_page
from coldray.reports.labels import counted
from coldray.reports.report import PAGE
from coldray.reports.study.report import study_report
from coldray.tracking.runs import StudyTracker

_SAVED = "study_"
"""What begins the name of the file with the result of a category."""


def tune_categories(options: StudyOptions, console: Console) -> CategoryResults:
    """Run the job.

    A category that cannot be read or studied is reported, and the others go on.

    Raises
    ------
    DataError
        If no category can be studied.
    """
    settings, output = options.settings, options.output
    source = options.source_for(load_study(options.file, settings).data)
    if source.name == "amazon":  # the files are the parts: another split would have to be asked for
        settings = {"splits.protocol": "predefined", "splits.n_splits": 1, **settings}
    config = load_study(options.file, settings)
    check_this_process(config)
    studies: dict[str, StudyResult] = {}
    left_out: dict[str, str] = {}
    without_bundle: list[BundleFitError] = []
    with writable_folder(output):
        check_servers(options)
        sources = category_sources(source, options.category)
        settings = {**settings_of(config), "categories": list(sources), "phase": options.phase}
        identity = StudyIdentity("categories", config.name, source.name, "", settings)
        say = StudyProgress(console).stage
        with (
            open_study(output, identity, resume=options.resume, command=options.command, say=say) as state,
            connected_ray(options.ray_address, options.cpus, StudyProgress(console)),
        ):
            check_workers(config)
            folder = output / state.id
            for name, place in sources.items():
                progress = StudyProgress(console)
                try:
                    study = prepare_study(config, *read_data(place, config, progress))
                    studies[name] = _study(name, study, state, options, progress, without_bundle)
                except (SearchInterruptedError, OutputError):
                    raise
                except ColdrayError as error:
                    if len(sources) == 1:
                        raise
                    left_out[name] = str(error)
                    progress.stage(f"{name} is left out: {error}")
            if not studies:
                raise DataError(f"None of the {len(sources)} categories could be studied. " + _first(left_out))
            result = CategoryResults(config.name, studies, left_out)
            _write(result, folder)
            summary = output / config.name
            _write(_summarised(output, config, say), summary)
            if without_bundle:
                raise without_bundle[0]
    console.print()
    console.print(terminal(category_report(result)))
    console.print(f"Summary of all studies: {from_here(summary / PAGE)}", soft_wrap=True, highlight=False)
    print_next_steps(console, folder / PAGE, options, source, "amazon --data-dir FOLDER")
    return result


def _first(left_out: dict[str, str]) -> str:
    name, reason = next(iter(left_out.items()))
    return f"{name}: {reason}"


def _study(
    category: str,
    study: PreparedStudy,
    state: StudyFolder,
    options: StudyOptions,
    progress: StudyProgress,
    without_bundle: list[BundleFitError],
) -> StudyResult:
    """Tune a category, or find its saved search, and test the choice, as the phase asks; write what was found.

    An error by which there is no bundle of it is added to `without_bundle`: what was tested is part of the result.
    """
    slug, output = file_stem(category), options.output
    encode_texts(study, progress)
    study_id = f"{state.id}-{slug}"
    folder = output / state.id
    saved = folder / f"search_{slug}.json"
    record = state.record(slug)
    found = None
    if options.phase in ("final", "auto"):
        try:
            found, settled = _found_search(output, saved.name, study.written, study.dataset)
            record.settle(settled)
        except StudyError as error:
            if options.phase == "final":
                raise
            progress.stage(f"{category} is searched: {error}")
    with tracking(StudyTracker, state, options, progress, slug) as tracker:
        listener = Listeners(record, progress, tracker)
        study = begin_study(study, study_id, record, listener)
        if found is None:
            found = search(study.config, study.tuning, study_id=study_id, record=record, listener=listener)
        else:
            progress.stage(f"found the {len(found.trials)} trials of {category} in {saved.name}; nothing is searched")
        save_search(saved, study.written, study.dataset, found, study.settled)
        if options.phase == "tune":
            result = _untested(study, found)
            report = write_page(study_report(result), folder / slug / PAGE)
            tracker.finish(result, [report])
        else:
            result = finish_study(study, found, listener, record)
            name = registered_name(options.model_name, study.dataset.name, study.config.model)
            if options.source.name == "amazon" and options.model_name:
                name = re.sub(r"[^\w .-]+", "-", f"{name}-{category}")
            placed = record.promotion if record.complete else None
            promotion = placed or decide(options, name, study, result, progress, record.promotion)
            result = replace(result, promotion=promotion)
            try:
                if not record.complete:
                    publish(study, result, Publication(folder / slug, name, tracker, progress), record)
                    record.finished()
            except BundleFitError as error:
                without_bundle.append(error)
                progress.stage(f"{category} has no bundle: {error}")
    with replacing(folder / f"tuning_{slug}.csv") as temporary:
        tuning_table(result).write_csv(temporary)
    save_study(folder / f"{_SAVED}{slug}.json", category, settings_of(study.written), result)
    return result


def _found_search(output: Path, name: str, config: StudyConfig, dataset: Dataset) -> tuple[SearchOutcome, Settled]:
    """Return the latest saved search of a category that is of this study and of these data, and the forms of its fits.

    Raises
    ------
    StudyError
        If there is none; what is told is of the latest one there is.
    """
    paths = sorted(output.glob(f"*/{name}"), key=lambda path: path.stat().st_mtime, reverse=True)
    refused: StudyError | None = None
    for path in paths:
        try:
            return load_search(path, config, dataset)
        except StudyError as error:
            refused = refused or error
    if refused is not None:
        raise refused
    return load_search(output / config.name / name, config, dataset)


def _summarised(output: Path, config: StudyConfig, say: Callable[[str], None]) -> CategoryResults:
    """Return the latest result of each category among all studies of this name and these settings, tested ones first.

    Results of other settings would not compare: they stay where they are, and are counted.
    """
    settings = json.loads(json.dumps(settings_of(config)))
    latest: dict[str, tuple[bool, float, str, SavedStudy]] = {}
    others = 0
    for path in output.glob(f"*/{_SAVED}*.json"):
        try:
            saved = read_study(path)
        except StudyError as error:
            say(f"left out of the summary: {error}")
            continue
        if saved.settings != settings:
            others += saved.result.name == config.name
            continue
        found = (bool(saved.result.test), saved.saved, path.parent.name, saved)
        slug = file_stem(saved.category)
        latest[slug] = max(latest.get(slug, found), found, key=lambda one: one[:2])
    if others:
        say(f"{counted(others, 'result')} of other settings are not in the summary; they are in their own folders")
    tested = any(found[0] for found in latest.values())
    shown = [found for _, found in sorted(latest.items()) if found[0] or not tested]
    studies = {saved.category: saved.restored() for *_, saved in shown}
    return CategoryResults(config.name, studies, {}, {saved.category: study for _, _, study, saved in shown})


def _untested(study: PreparedStudy, outcome: SearchOutcome) -> StudyResult:
    selection = select(outcome.trials, study.config.selection)
    nothing = Tested(selection.winner.trial_id, (), {}, (), study.settled.forms)
    return study_result(study, outcome, selection, nothing)


def _write(result: CategoryResults, folder: Path) -> None:
    """Write the table, the figures and the report of all categories."""
    if not result.tested:
        (folder / FINAL).unlink(missing_ok=True)  # a summary of other settings had one
    write_files(category_report(result), folder)
