"""What one fit says of a study: its parts are measured apart, and added up for all fits."""

import numpy as np
import pytest

from coldray.data.sources.sample import sample_dataset
from coldray.experiments.search.probe import Probe, _TimedComputations, probe_study
from coldray.experiments.search.proposals import proposer
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import prepare_study
from coldray.models.computations import result_of


@pytest.mark.parametrize(("trials", "splits", "slots"), [(1, 1, 1), (10, 3, 2), (32, 3, 8)])
def test_a_study_is_every_fit_and_what_is_shared_once_a_split(trials, splits, slots):
    probe = Probe({}, 2, preparing=1.0, sharing=20.0, fitting=3.0)
    search = sum(1.0 + 20.0 + sum(3.0 for _ in range(trials)) for _ in range(splits)) / slots
    test_and_bundle = (splits + 1) * (20.0 + 3.0)
    assert probe.study_seconds(trials, splits, slots) == pytest.approx(search + test_and_bundle)


def test_the_first_configuration_is_fitted_and_its_shared_results_counted():
    space = {"lambda_1": {"log_uniform": [1, 1000]}, "order": 1}
    config = StudyConfig(name="probe", model="marec", space=space, splits={"n_splits": 1})
    study = prepare_study(config, sample_dataset(0, 80, 60))
    probe = probe_study(study)
    assert probe.parameters == proposer(study.config).propose(0)
    assert probe.shared >= 1
    assert min(probe.preparing, probe.sharing, probe.fitting) > 0


def test_a_study_of_several_workers_is_probed_by_one():
    config = StudyConfig.model_validate(
        {
            "name": "probe",
            "model": "als",
            "space": {"n_factors": 2, "iterations": 1},
            "fit": {"workers": 2},
            "splits": {"protocol": "holdout", "n_splits": 1},
            "candidates": "all",
        }
    )
    assert probe_study(prepare_study(config, sample_dataset(0, 80, 60))).fitting > 0


class Data:
    key = "data"


def inner(data):
    return np.ones(3)


def outer(data, values):
    return values.sum()


def test_a_result_that_another_asks_for_is_counted_and_timed_once():
    shared = _TimedComputations()
    assert shared.get(outer, Data(), values=result_of(inner)) == 3
    assert shared.count == 2
    before = shared.seconds
    assert shared.get(inner, Data()) is shared.get(inner, Data())
    assert (shared.count, shared.seconds >= before) == (2, True)
