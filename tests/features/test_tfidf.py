import io
import json
import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from coldray.core.errors import DataFormatError, NotFittedError
from coldray.data.dataset import TextAttribute
from coldray.features.tfidf import TfidfConfig, TfidfEncoder, read_texts

WORDS = ["New", "york", "Paris", "rome", "a", "Löwen", "2001", "st"]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), min_size=1, max_size=10).map(tuple)


def by_hand(texts):
    """Return the terms and the dense TF-IDF matrix, one cell at a time."""
    words_of = [Counter(re.findall(r"\b\w\w+\b", text.lower())) for text in texts]
    terms = sorted(set().union(*words_of))
    matrix = np.zeros((len(texts), len(terms)))
    for row, words in enumerate(words_of):
        for column, term in enumerate(terms):
            df = sum(term in other for other in words_of)
            matrix[row, column] = words[term] * (math.log((1 + len(texts)) / (1 + df)) + 1)
        norm = math.sqrt(sum(value**2 for value in matrix[row]))
        if norm > 0:
            matrix[row] /= norm
    return tuple(terms), matrix


def through_disk(state):
    """Return a state after its arrays went through npz without pickle and the rest through JSON."""
    arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    buffer.seek(0)
    plain = json.loads(json.dumps({key: value for key, value in state.items() if key not in arrays}))
    return plain | dict(np.load(buffer, allow_pickle=False))


@settings(deadline=None)
@given(TEXTS)
def test_the_weights_are_those_of_the_formula(texts):
    feature = TfidfEncoder().fit(TextAttribute(texts)).transform(TextAttribute(texts))
    terms, matrix = by_hand(texts)
    assert feature.terms == terms
    assert feature.matrix.shape == matrix.shape
    assert feature.matrix.dtype == np.float32
    np.testing.assert_allclose(feature.matrix.toarray(), matrix, atol=1e-6)


@settings(deadline=None)
@given(TEXTS, st.randoms(use_true_random=False), st.integers(1, 4))
def test_permuting_the_items_permutes_the_rows(texts, random, max_terms):
    order = list(range(len(texts)))
    random.shuffle(order)
    config = TfidfConfig(max_terms=max_terms)
    permuted = TextAttribute(tuple(texts[i] for i in order))
    rows = TfidfEncoder(config).fit(TextAttribute(texts)).transform(TextAttribute(texts))
    moved = TfidfEncoder(config).fit(permuted).transform(permuted)
    assert moved.terms == rows.terms
    assert len(rows.terms) <= max_terms
    np.testing.assert_array_equal(moved.matrix.toarray(), rows.matrix.toarray()[order])


@settings(deadline=None)
@given(TEXTS, TEXTS, st.sampled_from(["word", "char_wb"]))
def test_a_restored_encoder_encodes_the_same(fitted, new, analyzer):
    encoder = TfidfEncoder(TfidfConfig(analyzer=analyzer, ngram_range=(1, 2))).fit(TextAttribute(fitted))
    restored = TfidfEncoder.from_state(through_disk(encoder.state()))
    assert restored.config == encoder.config
    before, after = encoder.transform(TextAttribute(new)), restored.transform(TextAttribute(new))
    assert after.terms == before.terms
    np.testing.assert_array_equal(after.matrix.toarray(), before.matrix.toarray())


def test_the_most_frequent_terms_are_kept():
    texts = TextAttribute(("rome rome rome", "paris paris", "oslo"))
    assert TfidfEncoder(TfidfConfig(max_terms=2)).fit(texts).terms == ("paris", "rome")


def test_unseen_words_of_a_new_item_are_ignored():
    encoder = TfidfEncoder().fit(TextAttribute(("rome paris", "paris")))
    matrix = encoder.transform(TextAttribute(("oslo", "rome oslo", ""))).matrix.toarray()
    np.testing.assert_allclose(matrix, [[0, 0], [0, 1], [0, 0]])


def test_character_runs_see_through_a_misspelling_that_words_do_not():
    texts = TextAttribute(("casablanca", "casablanka"))
    words = TfidfEncoder().fit(texts).transform(texts).matrix.toarray()
    characters = TfidfEncoder(TfidfConfig(analyzer="char_wb", ngram_range=(3, 4))).fit(texts).transform(texts)
    dense = characters.matrix.toarray()
    assert words[0] @ words[1] == 0
    assert dense[0] @ dense[1] > 0.4


@pytest.mark.parametrize("texts", [(), ("", "  "), ("a", "!?")])
def test_texts_without_a_word_give_no_columns(texts):
    encoder = TfidfEncoder().fit(TextAttribute(texts))
    assert encoder.terms == ()
    restored = TfidfEncoder.from_state(through_disk(encoder.state()))
    assert restored.transform(TextAttribute(("rome", "x"))).matrix.shape == (2, 0)


def test_no_items_give_no_rows():
    encoder = TfidfEncoder().fit(TextAttribute(("rome",)))
    assert encoder.transform(TextAttribute(())).matrix.shape == (0, 1)


def test_a_second_fit_forgets_the_first():
    encoder = TfidfEncoder().fit(TextAttribute(("rome",)))
    assert encoder.fit(TextAttribute(("oslo",))).terms == ("oslo",)
    assert encoder.fit(TextAttribute(("",))).terms == ()


def test_nothing_can_be_encoded_before_the_fit():
    with pytest.raises(NotFittedError, match="fit"):
        TfidfEncoder().transform(TextAttribute(("rome",)))


def test_a_state_with_a_frequency_missing_is_refused():
    state = TfidfEncoder().fit(TextAttribute(("rome paris",))).state()
    with pytest.raises(DataFormatError, match="2 terms"):
        TfidfEncoder.from_state(state | {"idf": state["idf"][:1]})


@pytest.mark.parametrize(
    "options", [{"max_terms": 0}, {"analyzer": "char"}, {"ngram_range": (3, 2)}, {"ngram_range": (0, 1)}, {"terms": 3}]
)
def test_options_that_mean_nothing_are_refused(options):
    with pytest.raises(ValidationError, match=next(iter(options))):
        TfidfConfig(**options)


def test_plain_values_become_texts():
    assert read_texts(["rome", None, ""], "title").texts == ("rome", "", "")
    with pytest.raises(DataFormatError, match=r"item 1 .*'title' must be a str, not 3 \(int\)"):
        read_texts(["rome", 3], "title")


JAPANESE = ["東京の夜", "夜の東京 Tokyo nights", "", "กรุงเทพ", "夜"]


def test_scripts_without_blanks_are_told_by_pairs_of_characters():
    encoder = TfidfEncoder().fit(TextAttribute(tuple(JAPANESE)))
    assert {"東京", "京の", "の夜", "夜の", "の東", "tokyo", "nights", "夜"} <= set(encoder.terms)
    rows = encoder.transform(TextAttribute(tuple(JAPANESE))).matrix
    assert (rows @ rows.T).toarray()[0, 1] > 0.05  # 0 by whole runs: none is in both


def test_an_encoder_saved_before_there_were_pairs_gives_the_features_it_gave():
    texts = TextAttribute((*JAPANESE, "plain words of english"))
    old = TfidfEncoder(TfidfConfig(unspaced="whole")).fit(texts)
    state = old.state()
    del state["config"]["unspaced"]
    restored = TfidfEncoder.from_state(state)
    assert "東京の夜" in restored.terms
    assert (restored.transform(texts).matrix != old.transform(texts).matrix).nnz == 0


@given(st.lists(st.text(st.characters(max_codepoint=0x4FF), max_size=30), min_size=1, max_size=8))
def test_texts_of_other_scripts_have_the_words_they_had(texts):
    attribute = TextAttribute(tuple(texts))
    pairs, whole = (TfidfEncoder(TfidfConfig(unspaced=how)).fit(attribute) for how in ("pairs", "whole"))
    assert pairs.terms == whole.terms
