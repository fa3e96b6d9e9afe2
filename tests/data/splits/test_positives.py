"""Which held-out interactions are to be found: against dense references, and what is refused."""

import operator
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from coldray.core.errors import ConfigError, EmptyDatasetError, MissingFieldError
from coldray.data.sources.movielens import read_movielens_split
from coldray.data.sources.sample import sample_dataset
from coldray.data.splits.interactions import interaction_splits
from coldray.data.splits.positives import Positives
from coldray.experiments.folds import prepare_task
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import draw_splits

OPERATORS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt, "==": operator.eq}


def rated(lowest=0, highest=5):
    """Return the sample with ratings of whole and half stars, zeros among them."""
    data = sample_dataset(0, 40, 30)
    clicks, rng = data.interactions, np.random.default_rng(1)
    values = rng.integers(2 * lowest, 2 * highest + 1, clicks.nnz).astype(np.float32) / 2
    return replace(data, ratings=sp.csr_array((values, clicks.indices, clicks.indptr), shape=clicks.shape))


DATA = rated()
COLD = StudyConfig.model_validate({"name": "cold", "model": "marec", "space": {"order": 1}, "splits": {"n_splits": 1}})
SPLITS = {
    "holdout": next(interaction_splits(DATA, protocol="holdout")),
    "user-holdout": next(interaction_splits(DATA, protocol="user-holdout")),
    "notebook": draw_splits(DATA, COLD)[0],
}


def pairs(matrix):
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return set(zip(rows.tolist(), matrix.indices.tolist(), strict=True))


@given(
    protocol=st.sampled_from(sorted(SPLITS)),
    sign=st.sampled_from(sorted(OPERATORS)),
    limit=st.integers(1, 9).map(lambda n: n / 2),
    part=st.sampled_from(["fold", "test_fold"]),
)
def test_held_out_pairs_of_such_a_rating_are_to_be_found_and_nothing_else_changes(protocol, sign, limit, part):
    split = SPLITS[protocol]
    fold = split.test_fold if part == "test_fold" else split.for_tuning().fold
    rule = Positives(rating=f"{sign} {limit}")
    ratings = fold.dataset.ratings.toarray()
    expected = {pair for pair in pairs(fold.held_out) if OPERATORS[sign](ratings[pair], limit)}
    found = rule.of(fold)
    assert pairs(found) == expected
    assert set(found.data) <= {1.0}
    if expected:
        task, plain = prepare_task(fold, None, positives=rule), prepare_task(fold, None)
        assert pairs(task.held_out) == expected
        assert pairs(task.histories) == pairs(plain.histories)
        assert task.held_out_items.tolist() == plain.held_out_items.tolist()  # what competes is the same
        assert task.users.tolist() == [user for user in plain.users if user in {row for row, _ in expected}]


def test_what_is_left_is_told():
    rule, fold = Positives(rating=">=4"), SPLITS["holdout"].test_fold
    held_out, ratings = pairs(fold.held_out), fold.dataset.ratings.toarray()
    found = {pair for pair in held_out if ratings[pair] >= 4}
    without = {user for user, _ in held_out} - {user for user, _ in found}
    assert without
    said = rule.counted([SPLITS["holdout"]])
    assert f"rating >=4: {len(found)} of {len(held_out)} test interactions are to be found" in said
    assert f"; {len(without)} user" in said


@pytest.mark.parametrize("rule", ["4", "=>4", ">= four", ">=4 and <5", ""])
def test_what_is_no_rule_is_refused(rule):
    with pytest.raises(ConfigError, match="is no comparison with a number"):
        Positives(rating=rule)


def test_another_column_is_refused():
    with pytest.raises(ValidationError, match="stars"):
        Positives.model_validate({"rating": ">=4", "stars": ">=4"})


def test_a_rule_that_leaves_nothing_is_refused():
    with pytest.raises(MissingFieldError, match="has no ratings"):
        Positives(rating=">=4").check(sample_dataset(0, 40, 30), "ease", predicts_ratings=False)
    with pytest.raises(EmptyDatasetError, match=r"no rating of dataset .* is >5; they are from 0 to 5"):
        Positives(rating=">5").check(DATA, "ease", predicts_ratings=False)
    with pytest.raises(ConfigError, match="the model 'mf' predicts every held-out rating"):
        Positives(rating=">=4").check(DATA, "mf", predicts_ratings=True)
    split = SPLITS["holdout"]
    low = sp.csr_array(split.dataset.ratings)
    low.data = np.where(split.parts == 2, 1, low.data).astype(np.float32)  # every test rating is 1
    with pytest.raises(EmptyDatasetError, match="test interactions of seed 42 / split 0 is >=4"):
        Positives(rating=">=4").check_splits([replace(split, dataset=replace(split.dataset, ratings=low))])


def test_a_published_split_stays_as_it_is_and_has_the_positives_that_its_file_lists(real_data):
    folder = real_data("ml-100k")
    split = read_movielens_split(folder, "u1").for_study(validation_share=0.2, seed=1)
    task = prepare_task(split.test_fold, None, positives=Positives(rating=">=4"))
    test = [line.split("\t") for line in (folder / "u1.test").read_text().splitlines()]
    assert task.held_out.nnz == sum(int(rating) >= 4 for _, _, rating, _ in test)
    assert task.histories.nnz == 80_000
