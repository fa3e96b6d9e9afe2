"""Data of which nothing is known but clicks: who can do with that, and who says that it cannot."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

import coldray
from coldray.core.errors import MissingFieldError
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.folds import prepare_task
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import prepare_study

SPACES = {
    "sasrec": {"epochs": 1},
    "ease": {"regularization": 100},
    "two_tower": {"epochs": 1},
    "kernel_align": {"ridge": 1},
    "ease+content_knn": {"k": 10},
}


@pytest.fixture(scope="module")
def data():
    sample = sample_dataset(0, 60, 50)
    clicks = sample.interactions
    times = sp.csr_array((np.arange(clicks.nnz), clicks.indices, clicks.indptr), shape=clicks.shape)
    return replace(sample, attributes={}, default_attributes=(), user_attributes={}, timestamps=times)


def prepared(model, data):
    splits = {"protocol": "leave-last", "n_splits": 1}
    study = {"name": "bare", "model": model, "data": {"name": "sample"}, "splits": splits, "space": SPACES[model]}
    return prepare_study(StudyConfig(**study, candidates="all"), data)


@pytest.mark.parametrize("model", ["sasrec", "ease"])
def test_a_model_that_knows_items_by_their_clicks_needs_no_attributes(data, model):
    study = prepared(model, data)
    task = prepare_task(study.tuning[0].fold, study.config.encoded_features, reads=study.config.reads)
    assert task.train.features.features == {}
    bundle = coldray.fit(model, data, **SPACES[model])
    assert len(bundle.recommend([data.user_ids[0]], k=5)) == 5


@pytest.mark.parametrize("model", ["two_tower", "kernel_align", "ease+content_knn"])
def test_one_that_knows_them_by_attributes_says_what_is_missing(data, model):
    with pytest.raises(MissingFieldError, match="no item attribute"):
        prepared(model, data)
    with pytest.raises(MissingFieldError, match="attributes"):
        coldray.fit(model, data, **SPACES[model])
