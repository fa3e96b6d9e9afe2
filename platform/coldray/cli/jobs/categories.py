"""The job of one model on several categories: each is tuned on validation, and its choice refitted and tested once.

Tuning and testing are phases: the first saves its trials, and the second finds them and searches no more.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
from rich.console import Console

from coldray.cli.arguments import overrides, source_of
from coldray.cli.devices import check_this_process, check_workers
from coldray.cli.jobs.tune import (
    check_tracking,
    print_next_steps,
    publish,
    read_data,
    registered_name,
    settings_of,
    tracking,
)
from coldray.cli.lines import from_here
from coldray.cli.progress.study import StudyProgress
from coldray.cli.promotion import decide
from coldray.cli.ray.cluster import connected_ray
from coldray.cli.texts import encode_texts
from coldray.core.errors import BundleFitError, ColdrayError, DataError, OutputError, SearchInterruptedError, StudyError
from coldray.core.files import replacing, writable_folder
from coldray.data.dataset import Dataset
from coldray.data.sources.amazon import file_stem
from coldray.data.sources.categories import category_sources
from coldray.data.sources.registry import SourceConfig
from coldray.data.splits.items import Split
from coldray.experiments.categories import CategoryResults
from coldray.experiments.description import describe_protocol
from coldray.experiments.forms.settled import Settled
from coldray.experiments.listeners import Listeners
from coldray.experiments.record.folder import StudyFolder, StudyIdentity, open_study
from coldray.experiments.record.saved_search import load_search, save_search
from coldray.experiments.record.saved_study import SavedStudy, read_study, save_study
from coldray.experiments.record.tested import Tested
from coldray.experiments.results import StudyResult
from coldray.experiments.search.run import SearchOutcome, search
from coldray.experiments.selection import select
from coldray.experiments.space import StudyConfig, load_study
from coldray.experiments.study import check_study, finish_study, settle_for, study_result, tell_forms
from coldray.reports.categories.figures import category_figures
from coldray.reports.categories.report import console_categories, write_category_report
from coldray.reports.categories.tables import final_table, tuning_table
from coldray.reports.labels import counted
from coldray.reports.report import write_report
from coldray.reports.style import save_figure
from coldray.tracking.runs import StudyTracker

FINAL = "final_test_results.csv"
SAVED = "study_"
"""What begins the name of the file with the result of a category."""


@dataclass(frozen=True)
class CategoryData:
    """What is studied of a category."""

    name: str
    dataset: Dataset
    splits: tuple[Split, ...]


def tune_categories(options: argparse.Namespace, console: Console, job: str) -> CategoryResults:
    """Run the job that the options of :func:`~coldray.cli.arguments.categories_parser` describe.

    A category that cannot be read or studied is reported, and the others go on.

    Raises
    ------
    DataError
        If no category can be studied.
    """
    source, settings = source_of(options), overrides(options.settings)
    if source.name == "amazon":  # the files are the parts: another split would have to be asked for
        settings = {"splits.protocol": "predefined", "splits.n_splits": 1, **settings}
    config = load_study(options.study, settings)
    check_this_process(config)
    output = options.output_dir.absolute()
    studies: dict[str, StudyResult] = {}
    left_out: dict[str, str] = {}
    without_bundle: list[BundleFitError] = []
    with writable_folder(output):
        check_tracking(options)
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
                    data = _read(name, place, config, progress)
                    several = source.name == "amazon"
                    studies[name] = _study(
                        data, config, output, state, options, progress, without_bundle, several=several
                    )
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
            _write(summarised(output, config, say), summary)
            if without_bundle:
                raise without_bundle[0]
    console.print()
    console.print(console_categories(result))
    console.print(f"Summary of all studies: {from_here(summary / 'report.html')}", soft_wrap=True, highlight=False)
    print_next_steps(console, folder / "report.html", options, job, real_data="amazon --data-dir FOLDER")
    return result


def _first(left_out: dict[str, str]) -> str:
    name, reason = next(iter(left_out.items()))
    return f"{name}: {reason}"


def _read(name: str, source: SourceConfig, config: StudyConfig, progress: StudyProgress) -> CategoryData:
    dataset, published = read_data(source, config, progress)
    return CategoryData(name, dataset, tuple(check_study(config, dataset, published)))


def _study(
    data: CategoryData,
    config: StudyConfig,
    output: Path,
    state: StudyFolder,
    options: argparse.Namespace,
    progress: StudyProgress,
    without_bundle: list[BundleFitError],
    *,
    several: bool,
) -> StudyResult:
    """Tune a category, or find its saved search, and test the choice, as the phase asks; write what was found.

    An error by which there is no bundle of it is added to `without_bundle`: what was tested is part of the result.
    """
    slug = file_stem(data.name)
    encode_texts(config, data.dataset, progress)
    study_id = f"{state.id}-{slug}"
    folder = output / state.id
    saved = folder / f"search_{slug}.json"
    record, written = state.record(slug), config
    found = None
    if options.phase == "final":
        found, settled = found_search(output, saved.name, written, data.dataset)
        record.settle(settled)
    config, settled = settle_for(written, data.dataset, record)
    with tracking(StudyTracker, state, options, progress, slug) as tracker:
        listener = Listeners(record, progress, tracker)
        listener.study_started(
            config, data.dataset, study_id, describe_protocol(config, data.dataset, data.splits, settled.forms)
        )
        tell_forms(settled, listener)
        if found is None:
            tuning = [split.for_tuning() for split in data.splits]
            found = search(config, tuning, study_id=study_id, record=record, listener=listener)
        else:
            progress.stage(f"found the {len(found.trials)} trials of {data.name} in {saved.name}; nothing is searched")
        save_search(saved, written, data.dataset, found, settled)
        if options.phase == "tune":
            result = _untested(config, data, found, settled)
            report = write_report(result, folder / slug / "report.html")
            tracker.finish(result, [report])
        else:
            result = finish_study(config, data.dataset, data.splits, found, listener, record)
            name = registered_name(options.model_name, data.dataset.name, config.model)
            if several and options.model_name:
                name = re.sub(r"[^\w .-]+", "-", f"{name}-{data.name}")
            promotion = record.promotion or decide(options, name, result, config, data.dataset, data.splits, progress)
            result = replace(result, promotion=promotion)
            try:
                if not record.complete:
                    publish(result, config, data.dataset, folder / slug, tracker, progress, name, record)
                    record.finished()
            except BundleFitError as error:
                without_bundle.append(error)
                progress.stage(f"{data.name} has no bundle: {error}")
    _write_csv(tuning_table(result), folder / f"tuning_{slug}.csv")
    save_study(folder / f"{SAVED}{slug}.json", data.name, settings_of(written), result)
    return result


def found_search(output: Path, name: str, config: StudyConfig, dataset: Dataset) -> tuple[SearchOutcome, Settled]:
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


def summarised(output: Path, config: StudyConfig, say: Callable[[str], None]) -> CategoryResults:
    """Return the latest result of each category among all studies of this name and these settings, tested ones first.

    Results of other settings would not compare: they stay where they are, and are counted.
    """
    settings = json.loads(json.dumps(settings_of(config)))
    latest: dict[str, tuple[bool, float, str, SavedStudy]] = {}
    others = 0
    for path in output.glob(f"*/{SAVED}*.json"):
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


def _untested(config: StudyConfig, data: CategoryData, outcome: SearchOutcome, settled: Settled) -> StudyResult:
    protocol = describe_protocol(config, data.dataset, data.splits, settled.forms)
    selection = select(outcome.trials, config.selection)
    nothing = Tested(selection.winner.trial_id, (), {}, (), settled.forms)
    return study_result(config, data.dataset, protocol, outcome, selection, nothing)


def _write(result: CategoryResults, folder: Path) -> None:
    """Write the table, the figures and the report of all categories."""
    if result.tested:
        _write_csv(final_table(result), folder / FINAL)
    elif (folder / FINAL).is_file():  # a summary of other settings had one
        (folder / FINAL).unlink()
    figures = category_figures(result)
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png")
    write_category_report(result, folder / "report.html", figures)


def _write_csv(table: pl.DataFrame, path: Path) -> None:
    with replacing(path) as temporary:
        table.write_csv(temporary)
