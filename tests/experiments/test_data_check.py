"""What a check finds suspicious: each condition planted alone, told with its level and its numbers."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import scipy.sparse as sp

from coldray.core.errors import CatalogTooLargeError
from coldray.data.dataset import LabelAttribute, binary_matrix
from coldray.data.sources.sample import sample_dataset
from coldray.data.splits.assignment import drawn_parts, published_parts
from coldray.data.splits.positives import Positives
from coldray.data.splits.protocols import DrawnProtocol
from coldray.experiments import data_check
from coldray.experiments.data_check import check_split
from coldray.experiments.data_findings import LEVELS, Finding, factor_findings, share_label, worst_first
from coldray.models.linear.factor_facts import FactorFacts, Magnitudes
from data.planted_split import planted_split, with_kinds

N = 120


def rows_of(n_users=N, n_items=6):
    """Return a clean split by a global time: everybody trains on four items, validates on one and tests on one."""
    return [
        (f"u{user:03}", f"i{item}", 1.0 + (user + item) % 5, item + user / 1000, max(0, item - n_items + 3))
        for user in range(n_users)
        for item in range(n_items)
    ]


def shifted(rows):
    """Return the rows with items in another order for each user, so that each is in every part."""
    return [(user, f"i{(int(item[1:]) + int(user[1:])) % 6}", *rest) for user, item, *rest in rows]


CLEAN = shifted(rows_of())


def found(rows=CLEAN, scale=(1.0, 5.0), **options):
    return check_split(planted_split(rows, **options), scale=scale, n_factors=3)


def texts(check, level=None):
    return [finding.sentence for finding in check.findings if level is None or finding.level == level]


def test_a_clean_split_has_no_finding():
    check = found()
    assert check.findings == ()
    assert check.without_factors is None


def changed(place, **fields):
    """Return the clean rows with some of the first ones changed."""
    names = ("user", "item", "rating", "day", "part")
    rows = [list(row) for row in CLEAN]
    for row in rows[:place]:
        for name, value in fields.items():
            row[names.index(name)] = value(row) if callable(value) else value
    return [tuple(row) for row in rows]


CASES = {
    "a rating outside the scale": (
        {"rows": changed(3, rating=7.0)},
        "warning",
        "3 of 720 (0.4 %) ratings are outside 1 to 5; there are ratings from 1 to 7.",
    ),
    "only one rating": ({"rows": changed(720, rating=4.0)}, "note", "All ratings are 4."),
    "time leak": (
        {"rows": [(*row[:3], -row[3], row[4]) for row in CLEAN]},
        "problem",
        "Time leak: 240 of 240 (100.0 %) held-out interactions are earlier than a train interaction of the same user, "
        "as published.",
    ),
    "a random split of times": (
        {"rows": [(*row[:3], -row[3], row[4]) for row in CLEAN], "protocol": "holdout"},
        "problem",
        "as holdout draws them at random.",
    ),
    "somebody else's train is later": (
        {"rows": [*CLEAN, ("v", "i0", 1.0, 9.0, 0)]},
        "note",
        "240 of 240 (100.0 %) held-out interactions are earlier than a train interaction of somebody else",
    ),
    "ties": (
        {
            "rows": [(*row[:3], min(row[3], 3 + int(row[0][1:]) / 1000), row[4]) for row in CLEAN],
            "protocol": "temporal",
        },
        "warning",
        "240 of 240 (100.0 %) held-out interactions have the time of their user's last train interaction.",
    ),
    "milliseconds": (
        {"rows": [(*row[:3], row[3] + 20_000_000, row[4]) for row in CLEAN]},
        "warning",
        "720 of 720 (100.0 %) timestamps are before 1990 or after 2099.",
    ),
    "equal times": ({"rows": [(*row[:3], 0, row[4]) for row in CLEAN]}, "warning", "All timestamps are equal."),
    "imported times": (
        {"rows": [(*row[:3], int(row[0][1:]), row[4]) for row in CLEAN]},
        "warning",
        "120 of 120 (100.0 %) users with several interactions have all of them at one time.",
    ),
    "no times": ({"times": False}, "note", "The data have no timestamps"),
    "pairs in two parts": (
        {"rows": [*CLEAN, ("u000", CLEAN[0][1], 1.0, 5.5, 2)], "unsorted": True},
        "problem",
        "1 (user, item) pairs are in two parts",
    ),
    "repeated pairs": (
        {"rows": [*CLEAN, ("u000", CLEAN[0][1], 1.0, 0.1, 0)], "unsorted": True},
        "warning",
        "1 interactions repeat a (user, item) pair.",
    ),
    "alike ids": (
        {"rows": changed(720, user=lambda row: " U000" if row[0] == "u001" else row[0])},
        "warning",
        "2 user ids are those of others but for case",
    ),
    "many items unseen": (
        {"rows": changed(720, item=lambda row: f"{row[1]}-new" if row[4] == 2 and row[0] < "u012" else row[1])},
        "warning",
        "6 of 12 (50.0 %) items of test are unseen in train, with 12 of 120 (10.0 %) of its interactions.",
    ),
    "rare items unseen": (
        {"rows": changed(720, item=lambda row: f"new {row[0]}" if row[4] == 2 and row[0] < "u005" else row[1])},
        "note",
        "5 of 11 (45.5 %) items of test are unseen in train, with 5 of 120 (4.2 %) of its interactions.",
    ),
    "a few users unseen": (
        {"rows": [*CLEAN, ("v", "i0", 1.0, 5.5, 2)]},
        "note",
        "1 of 121 (0.8 %) users of test are unseen in train, with 1 of 121 (0.8 %) of its interactions.",
    ),
    "users with one interaction": (
        {"rows": [*CLEAN, *((f"v{number}", "i0", 1.0, 0.5, 0) for number in range(40))]},
        "warning",
        "40 of 160 (25.0 %) users have one interaction.",
    ),
    "an item with one interaction": (
        {"rows": [*CLEAN, ("u000", "rare", 1.0, 0.5, 0)]},
        "note",
        "1 of 7 (14.3 %) items have one interaction.",
    ),
    "few are tested": ({"rows": CLEAN[:60]}, "warning", "The test part has 10 users only."),
    "no validation part": (
        {"rows": [row for row in CLEAN if row[4] != 1]},
        "note",
        "The validation part is empty, as it is published.",
    ),
    "users kept in train": ({"users_kept_in_train": 40}, "warning", "40 of 120 (33.3 %) users have too few"),
    "a heavy head": (
        {"rows": [row if row[4] else (row[0], f"i{row[0][1:]}-{row[1]}", *row[2:]) for row in rows_of()]},
        "note",
        "The most popular 1 % of the items have",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_condition_is_told(name):
    options, level, text = CASES[name]
    told = texts(found(**options), level)
    assert any(text in sentence for sentence in told), told
    assert not any(text in sentence for sentence in texts(found()))


def of_kinds(rows):
    return texts(check_split(with_kinds(planted_split(rows), {"buy": 5.0, "view": 1.0}), n_factors=3))


def bought(row):
    """Tell whether every second user bought what was held out, and one thing before."""
    return int(row[0][1:]) % 2 == 0 and row[3] >= 3


KINDS = [(*row[:2], 5.0 if bought(row) else 1.0, *row[3:]) for row in CLEAN]


def test_users_of_the_weakest_kind_alone_are_told():
    assert of_kinds(KINDS) == [
        "60 of 120 (50.0 %) users have interactions of the weakest kind, view, alone. What they want most is not "
        "known: their figures are of that kind."
    ]
    assert of_kinds([row if int(row[0][1:]) < 100 else (*row[:2], 5.0, *row[3:]) for row in KINDS])[0].startswith(
        "50 of"
    )
    assert of_kinds([(*row[:2], 5.0 if row[3] < 1 or bought(row) else 1.0, *row[3:]) for row in KINDS]) == []


def test_a_kind_that_a_held_out_part_lacks_is_told():
    rows = [row if row[4] != 2 else (*row[:2], 1.0, *row[3:]) for row in KINDS]
    assert any("The test part has no interaction of the kind buy." in text for text in of_kinds(rows))
    rows = [row if row[4] != 2 else (*row[:2], 5.0, *row[3:]) for row in KINDS]
    assert any("The test part has no interaction of the kind view." in text for text in of_kinds(rows))


def test_kinds_of_one_alone_are_told():
    (text,) = of_kinds([(*row[:2], 5.0, *row[3:]) for row in CLEAN])
    assert text.startswith("All interactions are of the kind buy.")


def positive(rule, rows=CLEAN, **options):
    check = check_split(planted_split(rows, **options), positives=Positives(rating=rule), n_factors=3)
    return check, texts(check)


def test_what_a_rule_of_positives_takes_is_no_finding_where_it_leaves_everybody_something():
    rows = [(*row[:2], 5.0 if row[4] else row[2], *row[3:]) for row in CLEAN]
    for user in range(N):  # what is not to be found is in test as well
        rows += [(f"u{user:03}", f"x{user % 2}", 1.0, 0.5, 0), (f"u{user:03}", f"x{(user + 1) % 2}", 1.0, 5.5, 2)]
    check, told = positive(">=4", rows)
    assert told == [
        "positives.rating >=4: all 120 validation interactions are to be found. The rule changes nothing there."
    ]
    assert check.protocol["positives"] == "rating >=4"
    assert check.quality.part("test").positives.users == N


@pytest.mark.parametrize(
    ("rule", "level", "text"),
    [
        (">5", "problem", "positives.rating: no rating of dataset 'planted' is >5; they are from 1 to 5."),
        (">=1", "note", "positives.rating >=1: all 120 test interactions are to be found."),
        (">=4", "warning", "positives.rating >=4: 72 of 120 (60.0 %) users of test have nothing to be found."),
        (">=2", "note", "positives.rating >=2: 24 of 120 (20.0 %) users of test have nothing to be found."),
        (">=4", "warning", "positives.rating >=4: 48 users of test have something to be found."),
    ],
)
def test_what_is_degenerate_in_a_rule_of_positives_is_told(rule, level, text):
    assert any(text in told for told in texts(positive(rule)[0], level))


def test_a_held_out_part_without_a_positive_is_a_problem():
    rows = [(*row[:2], 1.0 if row[4] == 2 else 5.0, *row[3:]) for row in CLEAN]
    check, _ = positive(">=4", rows)
    (problem,) = check.of_level("problem")
    assert problem.text == "positives.rating >=4: none of 120 test interactions is to be found."


def test_a_rule_for_data_without_ratings_is_a_problem():
    check, _ = positive(">=4", ratings=False)
    assert "has no ratings" in check.of_level("problem")[0].text


def with_devices(n_new):
    """Return the clean split in which so many of the tested users come by a device that no train interaction has."""
    split = planted_split(CLEAN)
    clicks, tested = split.dataset.interactions, np.flatnonzero(split.parts == 2)
    devices = np.zeros(clicks.nnz, int)
    devices[tested[:n_new]] = 1
    context = {"device": LabelAttribute(binary_matrix(np.arange(clicks.nnz), devices, (clicks.nnz, 2)), NAMES)}
    rows = sp.csr_array((np.arange(clicks.nnz), clicks.indices, clicks.indptr), shape=clicks.shape)
    return replace(split, dataset=replace(split.dataset, context=context, context_rows=rows))


NAMES = np.array(["phone", "watch"])


@pytest.mark.parametrize(("n_new", "level"), [(12, "warning"), (11, "note")])
def test_contexts_that_train_has_not_are_told(n_new, level):
    told = texts(check_split(with_devices(n_new), n_factors=3), level)
    assert len(told) == 1
    assert f"{n_new} of 240 ({n_new / 2.4:.1f} %) held-out interactions have a label of context 'device'" in told[0]


def test_clipped_ratings_are_told():
    split = planted_split(CLEAN)
    split.dataset.provenance["ratings_clipped"] = 9
    told = texts(check_split(split, n_factors=3), "warning")
    assert told == [
        "9 of 720 (1.2 %) ratings were outside their scale and are clipped to it. Correct them at their source; "
        "--strict-ratings refuses them."
    ]


def test_data_that_cannot_be_split_are_a_problem_and_still_described():
    check = check_split(drawn_parts(planted_split([row for row in CLEAN if row[4] > 0]).dataset), n_factors=3)
    problem = check.findings[0]
    assert problem.level == "problem"
    assert (
        "cannot be split: Split 0 of seed 42 (leave-last): the validation part has no interaction"
        in check.findings[0].text
    )
    assert check.quality.part("train").interactions == 240
    assert check.factors is not None


def test_factors_that_cannot_be_are_a_warning(monkeypatch):
    def too_large(*_, **__):
        raise CatalogTooLargeError("Needs 9 GiB.")

    monkeypatch.setattr(data_check, "factor_facts", too_large)
    check = found()
    assert (check.factors, check.without_factors) == (None, "Needs 9 GiB.")
    assert "The train part was not factorised: Needs 9 GiB." in texts(check, "warning")[0]


def test_clicks_are_decomposed_where_no_rating_is_but_zero():
    assert found().factors.matrix == "ratings"
    assert found([(*row[:2], 0.0, *row[3:]) for row in CLEAN], scale=None).factors.matrix == "clicks"
    assert found(ratings=False).factors.matrix == "clicks"


def test_a_low_coverage_and_those_without_weight_are_notes():
    side = Magnitudes(np.array([0.0, 1.0, 1.0]))
    facts = FactorFacts("clicks", np.ones(2), 0.5, side, side, 0.1, 0.1, 1.0, 1.0, 0.05, 10, 3, 3)
    told = [finding.text for finding in factor_findings(facts, None)]
    assert told == [
        "1 of 3 (33.3 %) train users have next to no weight in 2 factors.",
        "1 of 3 (33.3 %) train items have next to no weight in 2 factors.",
        "The lists of 10 of an SVD show 5.0 % of the items.",
    ]


def test_the_protocol_tells_how_the_numbers_came_to_be():
    check = check_split(drawn_parts(sample_dataset(0, 60, 50)), n_factors=4, most_users=20, seed=3)
    assert check.protocol["split"].startswith("holdout: a random 20 %")
    assert check.protocol["lists"] == "top 10 for a random 20 of the 60 train users, without what they know"
    assert check.dataset["synthetic"]


@pytest.mark.parametrize("protocol", get_args(DrawnProtocol))
def test_each_protocol_is_checked_and_told(protocol):
    check = check_split(drawn_parts(planted_split(CLEAN).dataset, protocol), n_factors=3)
    assert check.split == protocol
    assert check.protocol["split"].startswith(f"{protocol}: ")


def test_the_words_of_a_protocol_have_its_numbers():
    told = {
        name: check_split(drawn_parts(planted_split(CLEAN).dataset, name), n_factors=3).protocol["split"]
        for name in ("k-fold", "rolling-origin", "leave-last")
    }
    assert "dealt to 5 folds" in told["k-fold"]
    assert "in 3 blocks" in told["rolling-origin"]
    assert "the last interaction of each user test" in told["leave-last"]


def test_worst_come_first_and_the_others_stay_in_order():
    findings = [Finding(level, str(place), "") for place, level in enumerate(("note", "problem", "warning", "note"))]
    assert [finding.text for finding in worst_first(findings)] == ["1", "2", "0", "3"]
    assert LEVELS == ("problem", "warning", "note")


@pytest.mark.parametrize(
    ("part", "whole", "label"),
    [(0, 9, "0 of 9 (0.0 %)"), (1, 5000, "1 of 5,000 (< 0.1 %)"), (3, 4, "3 of 4 (75.0 %)"), (0, 0, "0 of 0 (0.0 %)")],
)
def test_shares(part, whole, label):
    assert share_label(part, whole) == label


def test_the_published_split_of_movielens_leaks(real_data):
    from coldray.data.sources.movielens import read_movielens_split

    check = check_split(published_parts(read_movielens_split(real_data("ml-100k"), "u1")), scale=(1, 5))
    (problem,) = check.of_level("problem")
    assert "19,437 of 20,000 (97.2 %)" in problem.text
    assert check.split == "u1"
