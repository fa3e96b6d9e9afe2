"""A study that is ready to begin: what it needs is resolved once, passed on as one value, and described in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from coldray.data.dataset import Dataset
from coldray.data.events import weighted_kinds
from coldray.data.filters import FilterConfig
from coldray.data.signals import Reads
from coldray.data.splits.items import Split, TuningSplit
from coldray.data.splits.split_files import LEFT_OUT
from coldray.experiments.forms.settled import Settled, settled_study
from coldray.experiments.record.record import StudyRecord
from coldray.experiments.space import StudyConfig
from coldray.experiments.split_config import SplitConfig
from coldray.features.builder import attribute_names
from coldray.features.moments import names_of_moments
from coldray.models.forms import Form

EVENTS, EVENTS_LEARNED = "events", "events learned"
"""Names of what events are worth, and of what a model makes of them."""
EVENTS_AS_CLICKS = "an event of any kind is one click"
"""What a model makes of events that does not read their weights."""


@dataclass(frozen=True, eq=False)
class PreparedStudy:
    """A study that has been checked, on its data."""

    written: StudyConfig
    """The study as its file says it."""
    config: StudyConfig
    """The same with the forms of its model named: by this it searches, tests and fits."""
    settled: Settled
    """Those forms."""
    dataset: Dataset
    splits: tuple[Split, ...]
    """With their test parts: a search is given :attr:`tuning` alone."""

    @property
    def tuning(self) -> list[TuningSplit]:
        """What a search may see of the splits."""
        return [split.for_tuning() for split in self.splits]

    def begun(self, record: StudyRecord) -> Self:
        """Return the study in the forms that its record knows; otherwise they are decided now, and recorded.

        Ray is connected by now, and may have a node with more memory than this one.

        Raises
        ------
        CatalogTooLargeError
            As of :func:`~coldray.experiments.forms.settled.settled_study`.
        """
        config, settled = settled_study(self.written, self.dataset, record.settled)
        record.settle(settled)
        return replace(self, config=config, settled=settled)

    def protocol(self, forms: Sequence[Form] | None = None) -> dict[str, str]:
        """Return how its numbers come to be, in words; with the `forms` as they were measured, if they were."""
        return describe_protocol(self.config, self.dataset, self.splits, self.settled.forms if forms is None else forms)


def describe_dataset(dataset: Dataset, config: StudyConfig | None = None) -> dict[str, Any]:
    """Return what a report says about the data: of the attributes those that a study reads, all without a study."""
    read, people, moments = tuple(dataset.attributes), None, None
    if config is not None:
        people, moments = config.encoded_users, config.encoded_moments
        read = attribute_names(dataset, config.features) if config.encoded_features else ()
    return {
        "name": dataset.name,
        "synthetic": dataset.synthetic,
        "n_users": dataset.n_users,
        "n_items": dataset.n_items,
        "n_unclicked_items": dataset.n_unclicked_items,
        "n_interactions": int(dataset.interactions.nnz),
        "density": dataset.density,
        "fingerprint": dataset.fingerprint,
        "attributes": list(read),
        **({"user_attributes": list(attribute_names(dataset.of_users, people))} if people else {}),
        **({"moment_features": list(names_of_moments(moments, dataset))} if moments else {}),
        **({"events": weighted_kinds(dataset)} if dataset.events is not None else {}),
        **({"notes": list(dataset.notes)} if dataset.notes else {}),
    }


def describe_protocol(
    config: StudyConfig, dataset: Dataset, splits: Sequence[Split], forms: Sequence[Form] = ()
) -> dict[str, str]:
    """Return how the numbers came to be, in words: they belong beside every number: the `forms` of the model too."""
    held_out, known = config.splits.held_out, "given" if config.splits.protocol == "user-holdout" else "train"
    listed = {
        "cold": "the held-out cold items",
        "all": f"every item but the user's {known} positives",
    }
    if config.splits.warms:
        listed["all"] = "every item but what is known of the user"
    if config.splits.warms_items:
        listed = {
            "cold": f"the cold items among themselves decide; {listed['all']} is ranked, too",
            "all": f"{listed['all']} decides; the cold items are ranked among themselves, too",
        }
    if config.splits.mixes:
        listed = {
            "cold": "the cold items, in the test those of validation too, decide; warm items, and all, are ranked, too",
            "all": "the lists of all items decide, of users who are to find warm and cold ones; warm items, and cold "
            "ones, are ranked among themselves, too",
        }
    counts = [split.counts() for split in splits]
    left_out = sum(count["users_without_train_clicks"] for count in counts)
    part_sizes = [f"{counts[0][f'{part}_{held_out}']:,} {part}" for part in ("train", "validation", "test")]
    return {
        "split": f"{config.splits.protocol}: {split_words(config.splits)}",
        "splits": f"{config.splits.n_splits} for each seed ({', '.join(map(str, config.splits.seeds))})",
        "first split": f"{', '.join(part_sizes)} {held_out}" + _more_of_first(counts[0]),
        **_warming_words(config.splits, dataset, counts[0]),
        **_mixed_words(config.splits, counts[0]),
        "candidates": f"{config.candidates}: {listed[config.candidates]}",
        **_unclicked_words(config, dataset),
        **({"positives": config.positives.counted(splits)} if config.positives else {}),
        **_event_words(config, dataset, splits),
        "users": f"with a {known} and a held-out click"
        + (f"; {left_out} without a {known} click left out, summed over splits" if left_out else "; none left out")
        + (f"; at most {config.splits.users:,} of each split, drawn by its seed" if config.splits.users else ""),
        "filters": "; ".join(map(_filter_words, dataset.provenance.get("filters", []))) or "none",
        "metrics": "hr@k (Eq. 12) and ndcg@k (Eq. 13) of Monteil et al. 2024: hits over min(k, relevant items)",
        "selection": f"mean validation {config.selection.metric}; test {held_out} are used once, by the winner",
        **({"form": " ".join(form.told_in_full for form in forms)} if forms else {}),
    }


def _event_words(config: StudyConfig, dataset: Dataset, splits: Sequence[Split]) -> dict[str, str]:
    """Return how events are graded and what the model makes of them; nothing where interactions are of one kind."""
    if dataset.events is None:
        return {}
    found = np.concatenate([split.test_fold.as_read(Reads(events=True)).held_out.data for split in splits])
    counts = ", ".join(f"{count:,} of {weight:g}" for weight, count in zip(*np.unique_counts(found), strict=True))
    told = "ndcg is graded by their weights, and gains are linear in them; to other measures all are alike"
    graded = "ratings are predicted, whatever the event" if config.kind.predicts_ratings else told
    return {
        EVENTS: f"weights {', '.join(weighted_kinds(dataset)) or 'of the data'}; {graded}; in the tests {counts}",
        EVENTS_LEARNED: f"by weight, as {config.model} reads them" if config.reads.events else EVENTS_AS_CLICKS,
    }


def _unclicked_words(config: StudyConfig, dataset: Dataset) -> dict[str, str]:
    """Return what becomes of the items that nobody has clicked; nothing if there are none."""
    if not dataset.n_unclicked_items:
        return {}
    what = (
        "left out of all folds, of tuning and of test"
        if config.candidates == "cold"
        else "in no part, known to all folds, of tuning and of test, where they compete for places"
    )
    return {"unclicked items": f"{dataset.n_unclicked_items:,} of the catalogue: {what}; the bundle has them"}


def split_words(splits: SplitConfig) -> str:
    """Return what a protocol holds out, with its shares."""
    test, validation = f"{100 * splits.test_share:g} %", f"{100 * splits.validation_share:g} %"
    last = "last interaction" if splits.last == 1 else f"last {splits.last} interactions"
    return {
        "notebook": "items permuted; 60 % train, 20 % validation, 20 % test",
        "balanced": "80/20 of the interactions, best of ten assignments of items, twice",
        "item-file": f"the parts of items that {splits.items.name if splits.items else 'a table'} lists, others train"
        + (f"; lists of the users of {splits.only_users.name}" if splits.only_users else ""),
        "holdout": f"a random {test} of each user's interactions is test, {validation} of the rest validation",
        "leave-last": f"the {last} of each user test, those before validation",
        "temporal": f"the latest {test} of all interactions are test, the latest {validation} of the rest validation",
        "per-user-temporal": f"the latest {test} of each user's interactions are test, the latest {validation} of the "
        "rest validation",
        "user-holdout": f"a random {test} of the users is tested, {validation} of the rest validates; "
        f"{100 * splits.given_share:g} % of their interactions are given, the others are to be found",
        "rolling-origin": f"all interactions by time in {splits.n_splits + 2} blocks; train up to one, the next "
        "validation, the one after it test",
        "predefined": "the parts that the data are published in" + (f", {splits.name}" if splits.name else ""),
        "item-warming": "items permuted; 60 % train, 20 % validation, 20 % test, which become known click by click; a "
        f"random {100 * splits.warm_share:g} % of each user's clicks on train items is test, as much of the rest "
        "validation",
        "recsys-cold": (
            f"the parts that the files in {splits.folder.name} list"
            if splits.folder
            else "80 % of the items are warm, of the others half validates, half is test; of the clicks on warm items "
            "a random 10 % validates, 10 % is test"
        )
        + "; models learn from the train clicks alone, and what validates is not ranked in the test",
        "user-cold": f"a random {test} of the users is tested, {validation} of the rest validates; nothing is known of "
        "them but their attributes",
        "user-warming": f"a random {test} of the users is tested, {validation} of the rest validates; they become "
        "known click by click",
        "k-fold": f"each user's interactions are dealt to {splits.n_splits} folds; one is test, the next validation",
    }[splits.protocol]


def _warming_words(splits: SplitConfig, dataset: Dataset, first: Mapping[str, int]) -> dict[str, str]:
    """Return which clicks become known, and of how many items, or users, there are fewer; nothing if none does."""
    if not splits.warms:
        return {}
    noun = "item" if splits.warms_items else "user"
    by = "by time" if dataset.timestamps is not None else "drawn by the seed, as the data have no timestamps"
    short = {n: first[f"{noun}s_without_{n}_test_clicks"] for n in splits.schedule if n}
    fewer = ", ".join(f"{count:,} fewer than {n}" for n, count in short.items() if count)
    told = f"; of the {first[f'test_{noun}s']:,} test {noun}s of the first split have {fewer}: there all are known"
    what = (
        f"the first {', '.join(map(str, splits.schedule))} clicks of each cold {noun}, {by}; the later ones are to be"
    )
    return {"known clicks": f"{what} found{told if fewer else ''}"}


def _mixed_words(splits: SplitConfig, first: Mapping[str, int]) -> dict[str, str]:
    """Return how many items are warm and cold where cold ones stand beside warm ones, and what is in no part."""
    if not splits.mixes:
        return {}
    told = (
        f"{first['validation_items']:,} for validation and {first['test_items']:,} for the test, beside "
        f"{first['warm_items']:,} warm ones"
    )
    lost = "; ".join(f"{first[name]:,} {words}" for name, words in LEFT_OUT.items() if name in first)
    return {"cold items": told, **({"left out": lost} if lost else {})}


def _more_of_first(counts: Mapping[str, int]) -> str:
    """Return what there is beside train, validation and test."""
    given = counts.get("given_for_validation_interactions", 0) + counts.get("given_for_test_interactions", 0)
    kept = counts.get("users_kept_in_train", 0)
    absent = counts.get("listed_items_left_out", 0)
    few = f"; {kept:,} user{'s' * (kept != 1)} with too few interactions to hold one out, all in train"
    return (
        (f", {given:,} given" if given else "")
        + (few if kept else "")
        + (f"; {absent:,} listed items without a click here left out" if absent else "")
    )


def _filter_words(entry: Mapping[str, Any]) -> str:
    """Name the filters of one entry of the provenance that are not at their default."""
    defaults = FilterConfig().model_dump()
    changed = {name: entry["config"][name] for name in defaults if entry["config"][name] != defaults[name]}
    return ", ".join(f"{name.replace('_', ' ')} {_value(value)}" for name, value in changed.items()) or "none"


def _value(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"
