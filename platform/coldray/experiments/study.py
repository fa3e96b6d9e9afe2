"""A study: search on validation data, choose, and test the choice once."""

from __future__ import annotations

from collections.abc import Mapping

from coldray.core.errors import ConfigError, MissingFieldError
from coldray.data.dataset import Dataset
from coldray.data.splits.items import Split
from coldray.data.splits.published import PredefinedSplit
from coldray.evaluation.metrics import METRICS
from coldray.experiments.edges import found_edges
from coldray.experiments.forms.loss import with_losses
from coldray.experiments.forms.settled import Settled, check_fits, settled_study
from coldray.experiments.listeners import Listeners, StudyListener
from coldray.experiments.prepared import EVENTS, EVENTS_LEARNED, PreparedStudy, describe_dataset
from coldray.experiments.record.record import StudyRecord
from coldray.experiments.record.tested import Tested
from coldray.experiments.results import Selection, StudyResult, TrialResult
from coldray.experiments.search.run import SearchOutcome, search
from coldray.experiments.selection import select
from coldray.experiments.space import StudyConfig, listed_values
from coldray.experiments.split_config import drawn_splits
from coldray.experiments.winner import WinnerMetrics, measure_winner
from coldray.features.builder import AttributeKind, attribute_kinds, choose_methods, read_attributes
from coldray.features.counts import count_attributes
from coldray.features.moments import names_of_moments
from coldray.models.forms import Form


def draw_splits(dataset: Dataset, config: StudyConfig, published: PredefinedSplit | None = None) -> list[Split]:
    """Return the splits of a study: `n_splits` for each seed, or the one that the dataset is published with.

    Their dataset has the items that nobody has clicked only where every item is a candidate; indices are its own.

    Raises
    ------
    ConfigError
        If the study asks for the published split and there is none.
    EmptyDatasetError
        If a part of a split is left without anything to be found.
    """
    splits = _split(dataset, config, published)
    if config.positives is not None:
        config.positives.check_splits(splits)
    return splits


def _split(dataset: Dataset, config: StudyConfig, published: PredefinedSplit | None) -> list[Split]:
    drawn = config.splits
    if drawn.protocol == "predefined":
        if published is None:
            raise ConfigError(
                f"splits.protocol: dataset {dataset.name!r} has no published split. Use --dataset amazon, "
                "coat, taobao-cart-buy, ml-100k with splits.name, or another protocol."
            )
        return [published.for_study(validation_share=drawn.validation_share, seed=drawn.seeds[0])]
    # Where cold items alone are ranked, items that nobody has clicked could only change what is known of the others,
    # such as how rare a label is, and with it figures that were measured without them.
    return drawn_splits(dataset if config.candidates == "all" else dataset.of_clicked_items(), drawn)


def prepare_study(config: StudyConfig, dataset: Dataset, published: PredefinedSplit | None = None) -> PreparedStudy:
    """Find out what can be wrong before anything takes long, and return the study ready to begin.

    Parameters
    ----------
    published
        The split that `dataset` is published with, if there is one: read by the protocol ``predefined`` alone.

    Raises
    ------
    UnknownAttributeError
        If the study names an attribute that the dataset does not have.
    ConfigError
        If items are held out and the model cannot score cold ones, the study asks for a published split and there is
        none, there are no timestamps for a split by time, an attribute cannot be encoded as the study asks, or a value
        of the space does not go with the attributes.
    MissingFieldError
        If the dataset has no attributes, ratings or timestamps, and the model reads them.
    EmptyDatasetError
        If a part of a split is left without interactions.
    CatalogTooLargeError
        If the model on all items of the dataset does not fit in memory.
    """
    named, settled = check_model(config, dataset)
    return PreparedStudy(config, named, settled, dataset, tuple(draw_splits(dataset, config, published)))


def check_model(config: StudyConfig, dataset: Dataset) -> tuple[StudyConfig, Settled]:
    """Find out what can be wrong with the model of a study on a dataset, whatever the splits; return its forms.

    Raises
    ------
    UnknownAttributeError, ConfigError, MissingFieldError, CatalogTooLargeError
        As :func:`prepare_study`.
    """
    read = read_attributes(dataset, config.features)
    model, cold = config.kind, config.splits.holds_out_items  # where cold items warm up, clicks alone may do
    if not read and (cold or model.needs_attributes()):
        reason = "cold items have nothing else" if cold else f"the model {config.model!r} learns from them"
        raise MissingFieldError(
            f"The study uses no item attribute of dataset {dataset.name!r}, and {reason}. Name some "
            "in features.attributes; of your own data by --items FILE with --label-columns, --number-columns or "
            "--text-columns."
        )
    if cold and not model.scores_cold_items:
        raise ConfigError(
            f"The model {config.model!r} cannot score cold items, which this study ranks. Hold out interactions "
            "instead: splits.protocol: holdout with candidates: all."
        )
    config.reads.of(dataset)
    if config.positives is not None:
        config.positives.check(dataset, config.model, predicts_ratings=model.predicts_ratings)
    if model.reads_users:
        dataset.require_user_attributes()
    if config.encoded_users is not None:
        choose_methods(dataset.of_users, config.encoded_users)
    if config.encoded_moments is not None:
        names_of_moments(config.encoded_moments, dataset)
    listed = [name for name in read if name in dataset.attributes]
    counts = count_attributes(read, listed) if config.features.counts else {}
    _check_values(config, attribute_kinds({**read, **counts}))
    named, settled = settled_study(config, dataset)
    check_fits(named, dataset)
    return named, settled


def _check_values(config: StudyConfig, kinds: Mapping[str, AttributeKind]) -> None:
    """Refuse a value of the space with which no trial could be fitted to these attributes."""
    for name, value in listed_values(config.space):
        try:
            config.configured({name: value}).check_attributes(kinds)
        except ConfigError as error:
            raise ConfigError(f"space.{name}: {value!r} is not valid: {error}") from error


def run_study(
    study: PreparedStudy,
    *,
    study_id: str,
    record: StudyRecord | None = None,
    listener: StudyListener | None = None,
) -> StudyResult:
    """Search, select and test.

    Parameters
    ----------
    study_id
        Name of the study.
    record
        Where its events are recorded; what it knows of trials is not computed again.
    """
    record = record or StudyRecord()
    watcher = Listeners(record, listener or StudyListener())
    study = begin_study(study, study_id, record, watcher)
    outcome = search(study.config, study.tuning, study_id=study_id, record=record, listener=watcher)
    return finish_study(study, outcome, watcher, record)


def begin_study(study: PreparedStudy, study_id: str, record: StudyRecord, listener: StudyListener) -> PreparedStudy:
    """Return a study in the forms of its record, and say that it begins, and in which forms its model is fitted."""
    study = study.begun(record)
    protocol = study.protocol()
    listener.study_started(study.config, study.dataset, study_id, protocol)
    for name in (EVENTS, EVENTS_LEARNED):
        if name in protocol:
            listener.stage(f"{name}: {protocol[name]}")
    for fault in METRICS.usable[1]:
        listener.stage(f"note: {fault} What it measures is left out.")
    for form in study.settled.forms:
        listener.stage(f"form of every fit: {form.told}")
    return study


def finish_study(
    study: PreparedStudy,
    outcome: SearchOutcome,
    listener: StudyListener | None = None,
    record: StudyRecord | None = None,
) -> StudyResult:
    """Select among the trials of a search, and test the winner once on each split.

    What the `record` knows of the test is not measured again; what is measured is recorded.
    """
    watcher, record = listener or StudyListener(), record or StudyRecord()
    selection = select(outcome.trials, study.config.selection)
    winner = selection.winner
    if record.tested is None or record.tested.key != winner.trial_id:
        forms = with_losses(study, winner.config, watcher)
        watcher.stage(f"testing the winner, trial {winner.number}, once on each split")
        tested = tested_winner(measure_winner(study, selection, watcher), winner, forms)
        record.winner_tested(tested)
    else:
        watcher.stage(f"the winner, trial {winner.number}, has been tested before")
        tested = record.tested
    return study_result(study, outcome, selection, tested)


def tested_winner(found: WinnerMetrics, winner: TrialResult, forms: tuple[Form, ...]) -> Tested:
    """Return the test of a winner, for the record."""
    return Tested(winner.trial_id, found.folds, found.intervals, found.notes, forms, found.measured)


def study_result(study: PreparedStudy, outcome: SearchOutcome, selection: Selection, tested: Tested) -> StudyResult:
    """Return what a study found, as tables, figures and the tracking server read it."""
    config = study.config
    costly = tuple(form.told for form in tested.forms if form.warns)
    return StudyResult(
        name=config.name,
        model=config.model,
        dataset=describe_dataset(study.dataset, config),
        protocol=study.protocol(tested.forms),
        searched=config.searched,
        cutoffs=config.cutoffs,
        trials=outcome.trials,
        selection=selection,
        test=tested.folds,
        test_intervals=tested.intervals,
        seconds=outcome.seconds,
        held_out=config.splits.held_out,
        notes=(*costly, *tested.notes),
        forms=tested.forms,
        measured=tested.measured,
        edges=found_edges(config.space, selection.winner.config, config.kind.config_type),
    )
