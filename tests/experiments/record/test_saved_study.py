"""What a study found, written and read again: nothing is lost but the values of single users."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import StudyError
from coldray.evaluation.metrics import RankingMetrics
from coldray.experiments.promotion.outcome import Promotion
from coldray.experiments.record.saved_study import _SavedResult, read_study, save_study
from coldray.experiments.results import FoldMetrics, Selection, StudyResult, TrialResult
from coldray.models.forms import Form

numbers = st.floats(allow_nan=False)
metrics = st.dictionaries(st.text(max_size=9), numbers, max_size=2)
folds = st.lists(
    st.builds(
        FoldMetrics, st.integers(0, 9), st.integers(0, 9), st.dictionaries(st.text(max_size=9), numbers, max_size=2)
    ),
    max_size=2,
).map(tuple)
values = st.none() | st.booleans() | st.integers(-9, 9) | numbers | st.text(max_size=9)
trials = st.builds(
    TrialResult,
    st.text(max_size=5),
    st.integers(0, 99),
    st.dictionaries(st.text(max_size=9), values, max_size=3),
    folds,
    st.sampled_from(["finished", "pruned", "failed"]),
    st.none() | st.text(max_size=9),
    numbers,
    st.booleans(),
)


@given(trials, folds, values, st.none() | st.just(Promotion("if-better", "challenger", "worse", "1 of run x at 2")))
def test_a_study_comes_back_as_it_was(tmp_path_factory, trial, test, value, promotion):
    measured = RankingMetrics(np.arange(2, dtype=np.int32), {"ndcg@10": np.zeros(2, np.float32)}, {})
    result = StudyResult(
        name="svd",
        model="svd",
        dataset={"name": "shop", "synthetic": False, "value": value},
        protocol={"split": "a"},
        searched=("n_factors",),
        cutoffs=(10, 25),
        trials=(trial,),
        selection=Selection(trial, trial, (trial,), "ndcg@10", 0.02, ("low",)),
        test=test,
        test_intervals={"ndcg@10": (0.1, 0.2)},
        seconds=1.5,
        held_out="interactions",
        notes=("a note",),
        forms=(Form("solver", "exact", True, "it fits", None),),
        measured=(measured,),
        promotion=promotion,
    )
    path = save_study(tmp_path_factory.mktemp("saved") / "study.json", "Toys/Games", {"name": "svd"}, result)
    saved = read_study(path)
    assert (saved.category, saved.settings) == ("Toys/Games", {"name": "svd"})
    assert saved.restored() == result  # which does not compare the values of single users
    assert saved.restored().measured == ()


def test_every_field_is_saved_but_the_values_of_single_users():
    assert {field.name for field in dataclasses.fields(StudyResult)} == {*_SavedResult.model_fields, "measured"}


def test_what_cannot_be_read_is_said(tmp_path):
    (tmp_path / "study.json").write_text("{")
    for path in (tmp_path / "study.json", tmp_path / "absent.json"):
        with pytest.raises(StudyError, match="cannot be read"):
            read_study(path)
