"""A study of a model that reads moments, checked before it starts."""

from dataclasses import replace

import pytest

from coldray.core.errors import MissingFieldError, UnknownAttributeError
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.prepared import describe_dataset
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import prepare_study

SPACES = {"fm": {"epochs": 2}, "ease+dcn": {"rank__epochs": 2}, "profile_knn": {"k": 10}}


@pytest.fixture(scope="module")
def data():
    """Return clicks of people of whom nothing else is known."""
    return replace(sample_dataset(), user_attributes={})


def study(model="fm", words=None):
    return StudyConfig(
        name="moments",
        model=model,
        data={"name": "sample"},
        splits={"protocol": "holdout", "n_splits": 1},
        candidates="all",
        space=SPACES[model],
        moment_features={} if words is None else {"attributes": words},
    )


@pytest.mark.parametrize("model", ["fm", "ease+dcn"])
def test_a_ranker_needs_no_attributes_of_users(data, model):
    prepared = prepare_study(study(model), data)
    facts = describe_dataset(data, prepared.config)
    assert facts["user_attributes"] == []
    assert facts["moment_features"] == ["activity"]  # nobody knows when the clicks of the sample were


def test_a_model_of_profiles_does(data):
    with pytest.raises(MissingFieldError, match="knows nothing of its users but their clicks"):
        prepare_study(study("profile_knn"), data)


@pytest.mark.parametrize(
    ("word", "error", "told"),
    [
        ("activty", UnknownAttributeError, "no feature of moments 'activty'. Did you mean 'activity'"),
        ("hour", MissingFieldError, "'hour' is made of times of clicks, and none is known"),
    ],
)
def test_what_cannot_be_made_is_refused_before_the_search(data, word, error, told):
    with pytest.raises(error, match=told):
        prepare_study(study(words=[word]), data)
