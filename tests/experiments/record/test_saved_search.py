"""A search in a file: it comes back as it was, and only for the study and the data it was made of."""

import json

import pytest

from coldray.core.errors import StudyError
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.forms.settled import Settled
from coldray.experiments.record.saved_search import load_search, save_search
from coldray.experiments.results import FoldMetrics, TrialResult
from coldray.experiments.search.run import SearchOutcome
from coldray.experiments.space import StudyConfig
from coldray.models.forms import Form

CONFIG = StudyConfig.model_validate(
    {
        "name": "svd",
        "model": "svd",
        "space": {"n_factors": {"choice": [2, 4]}},
        "splits": {"protocol": "leave-last", "n_splits": 1},
        "candidates": "all",
    }
)
FOLDS = (FoldMetrics(42, 0, {"ndcg@10": 1 / 3, "hr@10": 0.1 + 0.2}, 1.5),)
OUTCOME = SearchOutcome(
    (
        TrialResult("a", 0, {"n_factors": 2, "alpha": 0.2, "note": None}, FOLDS, "finished", None, 1.5),
        TrialResult("b", 1, {"n_factors": 4}, (), "failed", "SingularMatrixError: none", 0.1),
    ),
    12.25,
)


@pytest.fixture(scope="module")
def dataset():
    return sample_dataset(0, 60, 40)


@pytest.fixture
def saved(tmp_path, dataset):
    return save_search(tmp_path / "made" / "search.json", CONFIG, dataset, OUTCOME)


def test_a_search_comes_back_to_the_last_digit(saved, dataset):
    assert load_search(saved, CONFIG, dataset) == (OUTCOME, Settled())


def test_the_forms_come_back_too_and_a_file_without_them_is_read(saved, dataset, tmp_path):
    settled = Settled({"n_factors": 4}, (Form("solver", "blocks", False, "It is large.", 0.01, "on a draw"),))
    path = save_search(tmp_path / "settled.json", CONFIG, dataset, OUTCOME, settled)
    assert load_search(path, CONFIG, dataset) == (OUTCOME, settled)
    older = json.loads(path.read_text(encoding="utf-8"))
    del older["settled"]
    path.write_text(json.dumps(older), encoding="utf-8")
    assert load_search(path, CONFIG, dataset) == (OUTCOME, Settled())


def test_a_search_that_an_earlier_version_saved_is_read_without_how_its_fits_ran(saved, dataset):
    older = json.loads(saved.read_text(encoding="utf-8"))
    del older["study"]["fit"]
    for trial in older["trials"]:
        trial["config"] |= {"workers": 1, "device": "auto"}
    saved.write_text(json.dumps(older), encoding="utf-8")
    assert load_search(saved, CONFIG, dataset) == (OUTCOME, Settled())


def test_a_search_of_another_study_is_refused_by_what_differs(saved, dataset):
    other = CONFIG.model_copy(update={"space": {"n_factors": {"choice": [2, 8]}}})
    with pytest.raises(StudyError, match=r"is of another study: space was .*4.* and is .*8"):
        load_search(saved, other, dataset)
    selection = CONFIG.selection.model_copy(update={"tolerance": 0.5})
    with pytest.raises(StudyError, match="is of another study: selection was"):
        load_search(saved, CONFIG.model_copy(update={"selection": selection}), dataset)


def test_a_search_on_other_data_is_refused(saved):
    with pytest.raises(StudyError, match="is of other data: their fingerprint was"):
        load_search(saved, CONFIG, sample_dataset(1, 60, 40))


def test_an_absent_or_damaged_file_says_what_to_run(saved, dataset, tmp_path):
    with pytest.raises(StudyError, match=r"no saved search .*absent\.json\. Run the job with --phase tune"):
        load_search(tmp_path / "absent.json", CONFIG, dataset)
    text = saved.read_text(encoding="utf-8")
    saved.write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(StudyError, match="cannot be read"):
        load_search(saved, CONFIG, dataset)
    values = json.loads(text)
    del values["fingerprint"]
    saved.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(StudyError, match="cannot be read"):
        load_search(saved, CONFIG, dataset)
