"""What is suspicious in the facts of a dataset and its split, in plain words, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from coldray.core.spelling import choices
from coldray.data.catalogue import AS_TEXT, MATCHES, VECTORS_MATCH
from coldray.data.implausible import implausible_numbers
from coldray.data.quality.facts import ALL, DataQuality, PartFacts, TimeFacts
from coldray.data.splits.assignment import PartAssignment
from coldray.data.splits.parts import CHRONOLOGICAL, PART_WORDS, TEST, VALIDATION
from coldray.data.splits.positives import Positives
from coldray.data.tables.swapped import SWAPPED
from coldray.data.uninformative import equal_ratings, equal_times, uninformative_attributes
from coldray.models.linear.factor_facts import FactorFacts

Level: TypeAlias = Literal["problem", "warning", "note"]
LEVELS: tuple[Level, ...] = get_args(Level)
"""``problem``: a leak, or a part without interactions, so that figures measured on the split are wrong or none.
``warning``: what most likely is not as it should be. ``note``: what is to be known when figures are read."""

_FEW_TESTED = 100
"""Users of a part, below which its figures are mostly chance."""
_MUCH_UNSEEN = 0.05
_MANY_SINGLES = 0.25
_MANY_KEPT = 0.25
_MANY_WEAK = 0.25
_MANY_TIED = 0.1
_HEAVY_TOP = 0.3
_LOW_COVERAGE = 0.1
"""Shares beyond which something is told, or is a warning instead of a note."""


@dataclass(frozen=True)
class Finding:
    """One thing that is suspicious, and what to do about it."""

    level: Level
    text: str
    """What it is, with its numbers."""
    way_out: str
    """What to do about it."""

    @property
    def sentence(self) -> str:
        """What it is and what to do."""
        return f"{self.text} {self.way_out}"


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings by level; those of one level stay in their order."""
    return tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level)))


def data_findings(split: PartAssignment, quality: DataQuality) -> list[Finding]:
    """Return what is suspicious in the data and in their split."""
    tables = list(_of_tables(split))
    found = [
        *_of_parts(split, quality),
        *_of_pairs(quality),
        *_of_times(split, quality),
        *_of_ratings(split, quality),
        *_of_kinds(quality),
        *_of_unseen(split, quality),
        *_of_activity(split, quality),
        *_of_attributes(split),
        *_of_contexts(quality),
    ]
    told = {finding.text for finding in (*tables, *found)}
    notes = [note for note in split.dataset.notes if note not in told]
    return [*tables, *(Finding("note", note, "That is how the files were read.") for note in notes), *found]


def share_label(part: int, whole: int) -> str:
    """Return ``12 of 40 (30.0 %)``."""
    share = 100 * part / whole if whole else 0.0
    shown = f"{share:.1f}" if share >= 0.1 or not part else "< 0.1"
    return f"{part:,} of {whole:,} ({shown} %)"


def _of_tables(split: PartAssignment) -> Iterator[Finding]:
    """Yield what of the tables of items and of texts hardly fits the clicks."""
    provenance = split.dataset.provenance
    for match in (provenance[name] for name in provenance if name in MATCHES or name.startswith(VECTORS_MATCH)):
        if match["suspicious"]:
            yield Finding(
                "warning", match["text"], "Write ids in one way in all tables; a model of attributes knows no others."
            )
    if SWAPPED in provenance:
        yield Finding("warning", provenance[SWAPPED], "If they are, name them the other way round.")
    if AS_TEXT in provenance:
        yield Finding("warning", provenance[AS_TEXT], "Write ids as text in requests and histories, too.")


def _of_parts(split: PartAssignment, quality: DataQuality) -> Iterator[Finding]:
    if split.unsplit is not None:
        yield Finding("problem", f"The data cannot be split: {split.unsplit}", "All facts below are of the whole data.")
        return
    for name in PART_WORDS[VALIDATION : TEST + 1]:
        part = quality.part(name)
        if not part.interactions:
            yield Finding(
                "note",
                f"The {name} part is empty, as it is published.",
                "Draw it from train to select a configuration; never select on test.",
            )
        elif part.users < _FEW_TESTED:
            yield Finding(
                "warning",
                f"The {name} part has {part.users:,} users only.",
                "Its figures are mostly chance: use several splits or seeds, and read the intervals.",
            )
    if split.users_kept_in_train:
        share = split.users_kept_in_train / quality.part(ALL).users
        yield Finding(
            "warning" if share >= _MANY_KEPT else "note",
            f"{share_label(split.users_kept_in_train, quality.part(ALL).users)} users have too few interactions to "
            "hold one out; all theirs are in train.",
            "No figure speaks for them: filter users by their interactions, or say whom the figures are of.",
        )


def _of_pairs(quality: DataQuality) -> Iterator[Finding]:
    if quality.pairs_in_two_parts:
        yield Finding(
            "problem",
            f"{quality.pairs_in_two_parts:,} (user, item) pairs are in two parts: a model is tested on what it was "
            "fitted on.",
            "Keep each pair in one part.",
        )
    if quality.repeated_pairs:
        yield Finding(
            "warning", f"{quality.repeated_pairs:,} interactions repeat a (user, item) pair.", "Keep one a pair."
        )
    for what, count in (("user", quality.alike_users), ("item", quality.alike_items)):
        if count:
            yield Finding(
                "warning",
                f"{count:,} {what} ids are those of others but for case, blanks around them or leading zeros.",
                f"If they are the same {what}, write their ids in one way; else ignore this.",
            )


def _of_times(split: PartAssignment, quality: DataQuality) -> Iterator[Finding]:
    times, whole = quality.times, quality.part(ALL)
    if times is None:
        yield Finding(
            "note",
            "The data have no timestamps, so only random splits are possible.",
            "Figures are not those of predicting the future; if there are times, name their column.",
        )
        return
    if equal := equal_times(split.dataset):
        yield Finding("warning", equal, "They order nothing: use a split without time.")
        return
    if times.implausible:
        yield Finding(
            "warning",
            f"{share_label(times.implausible, whole.interactions)} timestamps are before 1990 or after 2099.",
            "They must be seconds since 1970 (UTC): look for other units, and for zeros that mean missing.",
        )
    if times.one_time_users >= _MANY_TIED * max(times.users, 1):
        yield Finding(
            "warning",
            f"{share_label(times.one_time_users, times.users)} users with several interactions have all of them at one "
            "time.",
            "Which of theirs came last is chance: the times may be those of an import, or rounded to days.",
        )
    if split.unsplit is None:
        yield from _of_order(split, quality, times)


def _of_order(split: PartAssignment, quality: DataQuality, times: TimeFacts) -> Iterator[Finding]:
    if times.within_user:
        drawn = "as published" if split.protocol == "predefined" else f"as {split.protocol} draws them at random"
        yield Finding(
            "problem",
            f"Time leak: {share_label(times.within_user, quality.held_out)} held-out interactions are earlier than a "
            f"train interaction of the same user, {drawn}.",
            "Figures are too good for predicting the future: split by time (leave-last, per-user-temporal, temporal), "
            "or compare only with figures of the same split.",
        )
    if times.tied >= _MANY_TIED * max(quality.held_out, 1) and split.protocol in CHRONOLOGICAL:
        yield Finding(
            "warning",
            f"{share_label(times.tied, quality.held_out)} held-out interactions have the time of their user's last "
            "train interaction.",
            "Chance decided which of them was held out: use finer times, or several seeds.",
        )
    if times.across_users:
        yield Finding(
            "note",
            f"{share_label(times.across_users, quality.held_out)} held-out interactions are earlier than a train "
            "interaction of somebody else, as in every split but one by a global time.",
            "Use --protocol temporal where trends matter.",
        )


def _of_ratings(split: PartAssignment, quality: DataQuality) -> Iterator[Finding]:
    whole, clipped = quality.part(ALL), split.dataset.provenance.get("ratings_clipped", 0)
    if clipped:
        yield Finding(
            "warning",
            f"{share_label(int(clipped), whole.interactions)} ratings were outside their scale and are clipped to it.",
            "Correct them at their source; --strict-ratings refuses them.",
        )
    if quality.outside_scale and quality.scale is not None and whole.ratings is not None:
        yield Finding(
            "warning",
            f"{share_label(quality.outside_scale, whole.interactions)} ratings are outside {quality.scale[0]:g} to "
            f"{quality.scale[1]:g}; there are ratings from {whole.ratings.lowest:g} to {whole.ratings.highest:g}.",
            "Correct or drop them, or name the true scale with --rating-scale.",
        )
    if equal := equal_ratings(split.dataset):
        yield Finding("note", equal, "They tell nothing: treat the interactions as clicks.")


def _of_kinds(quality: DataQuality) -> Iterator[Finding]:
    kinds, whole = quality.kinds, quality.part(ALL)
    if kinds is None or whole.events is None:
        return
    there = [place for place, count in enumerate(whole.events) if count]
    if len(there) == 1:
        yield Finding(
            "note",
            f"All interactions are of the kind {kinds.names[there[0]]}.",
            "Its weight tells nothing: leave the column of events out, or look for rows of other kinds.",
        )
        return
    if kinds.weakest_users >= _MANY_WEAK * kinds.users:
        yield Finding(
            "note",
            f"{share_label(kinds.weakest_users, kinds.users)} users have interactions of the weakest kind, "
            f"{kinds.names[-1]}, alone.",
            "What they want most is not known: their figures are of that kind.",
        )
    for name in PART_WORDS[VALIDATION : TEST + 1]:
        part = quality.part(name)
        lacking = [kinds.names[place] for place in there if part.events and not part.events[place]]
        if part.interactions and lacking:
            yield Finding(
                "warning" if kinds.names[there[0]] in lacking else "note",
                f"The {name} part has no interaction of the kind {choices(lacking)}.",
                "Its figures say nothing of that kind: hold out more, or by another protocol.",
            )


def _of_attributes(split: PartAssignment) -> Iterator[Finding]:
    for text in uninformative_attributes(split.dataset):
        yield Finding("warning", text, "Leave it out, or look at how its column is written.")
    for text in implausible_numbers(split.dataset):
        yield Finding("warning", text, "Models take them as they are: correct them, or leave their cells blank.")


def _of_contexts(quality: DataQuality) -> Iterator[Finding]:
    for context in quality.contexts:
        if context.unseen:
            yield Finding(
                "warning" if context.unseen >= _MUCH_UNSEEN * context.held_out else "note",
                f"{share_label(context.unseen, context.held_out)} held-out interactions have a label of context "
                f"{context.name!r} that no train interaction has.",
                "A model knows nothing of it, and takes it as unknown: give it coarser labels, or split by time alone "
                "if that is how it will be.",
            )


def _of_unseen(split: PartAssignment, quality: DataQuality) -> Iterator[Finding]:
    for name in PART_WORDS[VALIDATION : TEST + 1]:
        part = quality.part(name)
        yield from _unseen(part, "users", part.unseen_users, part.users, part.of_unseen_users)
        yield from _unseen(part, "items", part.unseen_items, part.items, part.of_unseen_items)


def _unseen(part: PartFacts, what: str, unseen: int, there: int, interactions: int) -> Iterator[Finding]:
    if not unseen:
        return
    way_out = {
        "users": "A model answers them by its fallback: leave them out, or report them apart.",
        "items": "Without attributes no model can recommend them: use a model of attributes, filter rare items, or "
        "know that so many hits are out of reach.",
    }[what]
    yield Finding(
        "warning" if interactions >= _MUCH_UNSEEN * part.interactions else "note",
        f"{share_label(unseen, there)} {what} of {part.name} are unseen in train, with "
        f"{share_label(interactions, part.interactions)} of its interactions.",
        way_out,
    )


def _of_activity(split: PartAssignment, quality: DataQuality) -> Iterator[Finding]:
    for what, activity in (("users", quality.users), ("items", quality.items)):
        if activity.singles:
            yield Finding(
                "warning" if activity.singles >= _MANY_SINGLES * len(activity.counts) else "note",
                f"{share_label(activity.singles, len(activity.counts))} {what} have one interaction.",
                f"Nothing can be learned of them that could be tested: filter {what} by their interactions.",
            )
    if quality.items.top_share >= _HEAVY_TOP:
        yield Finding(
            "note",
            f"The most popular 1 % of the items have {100 * quality.items.top_share:.0f} % of the interactions.",
            "Compare every model with popularity, and read its coverage beside its accuracy.",
        )


def positive_findings(positives: Positives, quality: DataQuality, unfit: str | None) -> Iterator[Finding]:
    """Yield what is degenerate in what a rule of positives takes, or, `unfit`, why it takes nothing at all."""
    if unfit is not None:
        yield Finding("problem", unfit, "No study runs by this rule.")
        return
    rule = f"positives.rating {positives.rating}"
    for name in PART_WORDS[VALIDATION : TEST + 1]:
        part = quality.part(name)
        if part.positives is None or not part.interactions:
            continue
        if not part.positives.interactions:
            yield Finding(
                "problem",
                f"{rule}: none of {part.interactions:,} {name} interactions is to be found.",
                "A study refuses this: use another limit, or another split.",
            )
        elif part.positives.interactions == part.interactions:
            yield Finding(
                "note",
                f"{rule}: all {part.interactions:,} {name} interactions are to be found.",
                "The rule changes nothing there.",
            )
        elif part.positives.users < part.users:
            left_out = part.users - part.positives.users
            yield Finding(
                "warning" if left_out >= _MANY_KEPT * part.users else "note",
                f"{rule}: {share_label(left_out, part.users)} users of {name} have nothing to be found.",
                "No figure speaks for them: name them beside it, or use another limit.",
            )
        if 0 < part.positives.users < _FEW_TESTED <= part.users:
            yield Finding(
                "warning",
                f"{rule}: {part.positives.users:,} users of {name} have something to be found.",
                "Figures are mostly chance: use another limit, several splits or seeds, and read the intervals.",
            )


def factor_findings(factors: FactorFacts | None, reason: str | None) -> Iterator[Finding]:
    """Yield what is suspicious in the factors of the train part, or why there are none."""
    if factors is None:
        yield Finding("warning", f"The train part was not factorised: {reason}", "The facts of factors are left out.")
        return
    for what, side in (("users", factors.users), ("items", factors.items)):
        if side.negligible:
            yield Finding(
                "note",
                f"{share_label(side.negligible, len(side.norms))} train {what} have next to no weight in "
                f"{factors.n_factors:,} factors.",
                "A model of factors says next to nothing of them: use more factors, or filter the rare.",
            )
    if factors.coverage < _LOW_COVERAGE:
        yield Finding(
            "note",
            f"The lists of {factors.list_length} of an SVD show {100 * factors.coverage:.1f} % of the items.",
            "Watch the coverage of what is tuned: a model that lists the same few items for all looks accurate.",
        )
