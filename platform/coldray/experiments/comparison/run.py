"""A comparison: every entry tuned on validation data, the champion chosen there, then all winners tested once.

Means, intervals and paired differences are over the same users.

Notation used for shapes: e users tested on a fold, m users tested on at least one fold.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from coldray.core.errors import ConfigError, DataError, ModelError, SearchInterruptedError, SelectionError, StudyError
from coldray.data.dataset import Dataset
from coldray.data.splits.items import Split
from coldray.data.splits.published import PredefinedSplit
from coldray.experiments.ablation.statistics import CORRECTION
from coldray.experiments.comparison.config import Comparison, Entry, VectorsEntry, check_track
from coldray.experiments.comparison.differences import TestedEntry, entry_results
from coldray.experiments.comparison.result import ComparisonResult, FailedEntry
from coldray.experiments.comparison.vectors import Vectors, load_vectors, vectors_study
from coldray.experiments.forms.loss import with_losses
from coldray.experiments.inspection.config import InspectionConfig
from coldray.experiments.inspection.item_facts import label_attribute, shown_facts
from coldray.experiments.listeners import Listeners, StudyListener
from coldray.experiments.prepared import (
    EVENTS_AS_CLICKS,
    EVENTS_LEARNED,
    PreparedStudy,
    describe_dataset,
    describe_protocol,
)
from coldray.experiments.record.record import StudyRecord
from coldray.experiments.results import Selection, StudyResult
from coldray.experiments.search.run import SearchOutcome, search
from coldray.experiments.selection import select
from coldray.experiments.study import begin_study, check_model, draw_splits, finish_study, study_result, tested_winner
from coldray.experiments.winner import measure_winner
from coldray.features.builder import choose_methods

ListenerOf: TypeAlias = Callable[[Entry], StudyListener]
RecordOf: TypeAlias = Callable[[Entry], StudyRecord]
_TRACKS = (
    "strict: exactly the dataset's default attributes, those that MARec uses; full: also the title, counts of labels, "
    "texts embedded by a pretrained model, or attributes of users; clicks: no attribute"
)
_ENTRY_ERRORS = (StudyError, DataError, ModelError, ConfigError)
"""What costs an entry, and no other; a server or a disk that fails stops the comparison."""


@dataclass(frozen=True)
class Checked:
    """A comparison that can start."""

    dataset: Dataset
    splits: tuple[Split, ...]
    """The same for every entry."""
    studies: Mapping[str, PreparedStudy]
    """Those of the entries that can run, by name."""
    failed: tuple[FailedEntry, ...]
    """Entries that cannot run on this dataset."""
    vectors: Mapping[str, Vectors] = field(default_factory=dict)
    """Those by file, by the name of the entry."""

    def study(self, name: str) -> PreparedStudy:
        """Return the study of an entry; raise StudyError if it cannot run."""
        if name not in self.studies:
            raise StudyError(next(f"{name}: {one.reason}" for one in self.failed if one.name == name))
        return self.studies[name]


@dataclass(frozen=True)
class _TunedEntry:
    """An entry after its search: what validation data say of it."""

    entry: Entry
    study: PreparedStudy
    outcome: SearchOutcome
    selection: Selection
    record: StudyRecord
    """Of its study."""


def check_comparison(
    comparison: Comparison,
    dataset: Dataset,
    listener: StudyListener | None = None,
    published: PredefinedSplit | None = None,
) -> Checked:
    """Find out what can be wrong before anything takes long, and return the splits.

    An entry for which the dataset lacks attributes, ratings or times, or which is too large for the memory, costs
    itself alone.

    Parameters
    ----------
    published
        The split that `dataset` is published with, if there is one: read by the protocol ``predefined`` alone.

    Raises
    ------
    ConfigError
        If an entry reads other attributes than its track allows, labels are asked for that are not there, and as
        :func:`~coldray.experiments.study.prepare_study`.
    EmptyDatasetError
        If a part of a split is left without interactions.
    StudyError
        If no entry is left.
    """
    failed, usable = [], {}
    if comparison.config.inspection is not None:
        label_attribute(dataset, comparison.config.inspection.attribute)
    for entry in comparison.entries:
        check_track(entry, dataset)
        try:
            usable[entry.name] = check_model(entry.study, dataset)
        except ConfigError as error:
            raise ConfigError(f"The entry {entry.name!r}: {error}") from error
        except (DataError, ModelError) as error:
            failed.append(failed_entry(entry, error, listener or StudyListener()))
    loaded = {}
    for given in comparison.vectors:
        try:
            loaded[given.name] = load_vectors(given.config, dataset)
        except (DataError, ModelError) as error:
            failed.append(failed_entry(given, error, listener or StudyListener()))
    if not usable:
        raise _nothing_left(failed)
    splits = tuple(draw_splits(dataset, comparison.entries[0].study, published))
    studies = {
        entry.name: PreparedStudy(entry.study, *usable[entry.name], dataset, splits)
        for entry in comparison.entries
        if entry.name in usable
    }
    return Checked(dataset, splits, studies, tuple(failed), loaded)


def run_comparison(
    comparison: Comparison,
    checked: Checked,
    *,
    comparison_id: str,
    protocol: Mapping[str, str],
    record_of: RecordOf | None = None,
    listener: StudyListener | None = None,
    listener_of: ListenerOf | None = None,
) -> ComparisonResult:
    """Tune every entry, choose the champion, and test every winner once.

    Parameters
    ----------
    checked
        As of :func:`check_comparison`.
    comparison_id
        Name of the comparison.
    protocol
        As of :func:`comparison_protocol`.
    record_of
        Gives the record of each entry's study; what it knows of trials is not computed again.
    listener
        Told what concerns all entries.
    listener_of
        Gives the listener of each entry's study, when it begins.

    Raises
    ------
    StudyError
        If every entry fails.
    SearchInterruptedError
        If a search was stopped: no entry is begun after it.
    """
    started = time.perf_counter()
    watcher = listener or StudyListener()

    def begin(entry: Entry) -> tuple[PreparedStudy, StudyRecord, StudyListener]:
        record = record_of(entry) if record_of else StudyRecord()
        found = Listeners(record, listener_of(entry) if listener_of else StudyListener())
        study = begin_study(checked.studies[entry.name], _study_id(comparison_id, entry), record, found)
        return study, record, found

    entries = [entry for entry in comparison.entries if entry.name in checked.studies]
    tuned, untuned = _tune_entries(entries, comparison_id=comparison_id, begin=begin, listener=watcher)
    tested, untested = _test_entries(tuned, watcher, comparison.config.inspection)
    failed = [*checked.failed, *untuned, *untested]
    if not tested:
        raise _nothing_left(failed)
    config = comparison.config
    usable = {one.entry.name for one in tested}
    tested = _in_order([*tested, *_measured_vectors(comparison, checked, watcher)], comparison)
    champion = _choose_champion([found for found in tuned if found.entry.name in usable])
    dataset = checked.dataset
    described = describe_dataset(dataset, comparison.entries[0].study)
    return ComparisonResult(
        name=config.name,
        dataset={**described, "attributes": list(dataset.default_attributes)},
        protocol={**protocol, **_forms(tested)},
        cutoffs=config.cutoffs,
        metric=config.selection.metric,
        baseline=config.baseline,
        champion=champion.entry.name,
        entries=entry_results(tested, config.baseline, config.selection.metric, config.cutoffs, config.search.seed),
        failed=tuple(failed),
        correction=CORRECTION,
        seconds=time.perf_counter() - started,
        held_out=config.splits.held_out,
        inspection=config.inspection,
        shown=shown_facts(checked.splits[0].dataset, config.inspection, [one.inspections for one in tested]),
    )


def _measured_vectors(comparison: Comparison, checked: Checked, listener: StudyListener) -> list[TestedEntry]:
    """Measure the vectors by file on the folds of all entries."""
    found = []
    for entry in comparison.vectors:
        if entry.name in checked.vectors:
            vectors, study = checked.vectors[entry.name], comparison.entries[0].study
            result = vectors_study(entry, vectors, checked.dataset, checked.splits, study)
            for note in result.notes:
                listener.stage(f"{entry.name}: {note}")
            listener.stage(f"tested {entry.name}, vectors by file")
            found.append(TestedEntry(entry, result, {}, result.measured, result.seconds))
    return found


def _in_order(tested: list[TestedEntry], comparison: Comparison) -> list[TestedEntry]:
    """Return entries in the order of the comparison file."""
    names = list(comparison.config.entries)
    return sorted(tested, key=lambda one: names.index(one.entry.name))


def tested_before(study: PreparedStudy, record: StudyRecord, listener: StudyListener) -> StudyResult:
    """Return the study of an entry that was tuned and tested before, from its record; nothing is computed again."""
    outcome = SearchOutcome(tuple(record.ended[number] for number in sorted(record.ended)), 0.0)
    return finish_study(study.begun(record), outcome, listener, record)


def comparison_protocol(comparison: Comparison, checked: Checked) -> dict[str, str]:
    """Return how the numbers came to be, in words: they belong beside every number."""
    metric = comparison.config.selection.metric
    described = describe_protocol(comparison.entries[0].study, checked.dataset, checked.splits)
    if EVENTS_LEARNED in described:
        reading = [entry.name for entry in comparison.entries if entry.study.reads.events]
        by_weight = f"by weight in {', '.join(reading)}; to the others " if reading else ""
        described[EVENTS_LEARNED] = f"{by_weight}{EVENTS_AS_CLICKS}"
    return {
        **described,
        "selection": f"each entry's configuration, and the champion among the entries, by mean validation {metric}; "
        f"test {comparison.config.splits.held_out} are used once, by the winner of each entry",
        "tracks": _TRACKS,
    }


def _tune_entries(
    entries: Iterable[Entry],
    *,
    comparison_id: str,
    begin: Callable[[Entry], tuple[PreparedStudy, StudyRecord, StudyListener]],
    listener: StudyListener,
) -> tuple[list[_TunedEntry], list[FailedEntry]]:
    """Search and select for each entry, on what its study may see.

    `begin` is called as an entry's turn comes, and returns its study with the forms settled, what is known of its
    trials, and who listens to its search.
    """
    tuned: list[_TunedEntry] = []
    failed = []
    for entry in entries:
        try:
            study, record, watcher = begin(entry)
            study_id = _study_id(comparison_id, entry)
            outcome = search(study.config, study.tuning, study_id=study_id, record=record, listener=watcher)
            tuned.append(_TunedEntry(entry, study, outcome, select(outcome.trials, study.config.selection), record))
        except SearchInterruptedError:
            raise
        except _ENTRY_ERRORS as error:
            failed.append(failed_entry(entry, error, listener))
    return tuned, failed


def _choose_champion(tuned: Sequence[_TunedEntry]) -> _TunedEntry:
    """Return the entry whose winner has the best mean validation metric, the first of equals."""
    return max(tuned, key=lambda found: found.selection.winner.quality(found.selection.metric))


def _test_entries(
    tuned: Sequence[_TunedEntry], listener: StudyListener, inspection: InspectionConfig | None
) -> tuple[list[TestedEntry], list[FailedEntry]]:
    """Measure the winner of each entry, once on each split."""
    tested, failed = [], []
    if tuned:
        listener.stage(f"testing {len(tuned)} winners on {len(tuned[0].study.splits)} test folds, once")
    for found in tuned:
        entry, study, winner, started = found.entry, found.study, found.selection.winner, time.perf_counter()
        try:
            forms = with_losses(study, winner.config, listener)
            measured = measure_winner(study, found.selection, listener, inspection)
        except _ENTRY_ERRORS as error:
            failed.append(failed_entry(entry, error, listener))
            continue
        listener.stage(f"tested {entry.name}, trial {winner.number}")
        tested_once = tested_winner(measured, winner, forms)
        found.record.winner_tested(tested_once)
        result = study_result(study, found.outcome, found.selection, tested_once)
        seconds = found.outcome.seconds + time.perf_counter() - started
        tested.append(
            TestedEntry(
                replace(entry, study=study.config),
                result,
                _attributes(study),
                measured.measured,
                seconds,
                measured.inspections,
            )
        )
    return tested, failed


def _forms(tested: Sequence[TestedEntry]) -> dict[str, str]:
    """Return in which forms the models of the entries were fitted, in words; nothing where each has one alone."""
    words = [f"{one.entry.name}: {form.told_in_full}" for one in tested for form in one.study.forms]
    return {"forms": " ".join(words)} if words else {}


def _attributes(study: PreparedStudy) -> dict[str, str]:
    """Return how each attribute that a study reads is encoded, by name."""
    features = study.config.encoded_features
    if features is None:
        return {}
    attributes: dict[str, str] = dict(choose_methods(study.dataset, features))
    if features.counts:
        attributes["numbers of labels"] = "scalar"
    return attributes


def _study_id(comparison_id: str, entry: Entry) -> str:
    return f"{comparison_id}-{entry.name}"


def failed_entry(entry: Entry | VectorsEntry, error: Exception, listener: StudyListener) -> FailedEntry:
    """Return the record of an entry that costs itself alone, and tell the listener why."""
    failed = FailedEntry(entry.name, entry.track, entry.model, f"{type(error).__name__}: {error}")
    listener.stage(f"{entry.name} failed, the others go on: {failed.reason}")
    return failed


def _nothing_left(failed: Sequence[FailedEntry]) -> SelectionError:
    return SelectionError(f"Every entry failed. The first, {failed[0].name}: {failed[0].reason}")
