import json
import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

import coldray
from coldray.core.errors import ConfigError, UnknownAttributeError
from coldray.data.dataset import Dataset
from coldray.features.builder import FeatureConfig, FeatureEncoder, attribute_names, attributes_from_records
from coldray.features.derived import Derived
from coldray.features.tfidf import words

KINDS = {"title": "text", "genres": "labels", "year": "number", "review_1": "text", "review_2": "text"}
RECORDS = [
    {"title": "Heat.", "genres": ["crime", "drama"], "year": 1995, "review_1": "A great film. I love it!"},
    {"genres": ["drama"], "review_1": "What a horrible, boring mess.", "review_2": "I love it!"},
    {"title": " The room ", "year": 2003.5},
    {},
]


def films(records=RECORDS, default=("year",)):
    n = len(records)
    clicks = sp.csr_array(np.ones((1, n), np.float32))
    attributes = attributes_from_records(records, KINDS)
    return Dataset("films", np.array([1]), np.arange(n), clicks, attributes, default)


def derived(joined=None, sentiment=()):
    return Derived.of(joined or {}, sentiment, films().attributes)


def test_a_joined_text_is_what_its_parts_say_in_their_order():
    made = derived({"about": ("title", "genres", "year")}).made(films().attributes)["about"]
    assert made.texts == ("Heat. crime, drama. 1995", "drama", "The room. 2003.5", "")
    assert derived({"all": ("review_*", "title", "review_1")}).joined == {"all": ("review_1", "review_2", "title")}


def test_the_sentiment_is_vaders_mean_over_sentences_of_the_texts_of_an_item():
    mood = derived(sentiment=("review_*",)).made(films().attributes)["sentiment of review_*"].values
    vader = SentimentIntensityAnalyzer()
    great, love, mess = (
        vader.polarity_scores(text)["compound"]
        for text in ("A great film.", "I love it!", "What a horrible, boring mess.")
    )
    assert mess < 0 < great
    np.testing.assert_allclose(mood, [(great + love) / 2, (mess + love) / 2, math.nan, math.nan])


def test_what_is_made_is_read_beside_the_attributes_and_kept_with_the_encoder():
    config = FeatureConfig(joined={"about": ("title", "genres")}, sentiment=("review_*",), counts=True)
    assert attribute_names(films(), config) == ("year", "about", "sentiment of review_*")
    encoder = FeatureEncoder(config).fit(films())
    assert dict(encoder.methods) == {"year": "scalar", "about": "tfidf", "sentiment of review_*": "scalar"}
    # What new items are asked for is the parts.
    assert encoder.kinds == {name: KINDS[name] for name in ("year", "title", "genres", "review_1", "review_2")}
    state = encoder.state()
    arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
    rest = json.loads(json.dumps({name: value for name, value in state.items() if name not in arrays}))
    again = FeatureEncoder.from_state({**rest, **arrays})
    new = attributes_from_records([{"genres": "crime", "review_1": "I love it!"}, {"year": 2000}], encoder.kinds)
    for one in (encoder, again):
        made = one.transform(new, 2).features
        assert list(made) == list(encoder.methods)
        found = made["about"].matrix.toarray()[0]
        assert [term for term, weight in zip(made["about"].terms, found, strict=True) if weight] == ["crime"]
        assert made["sentiment of review_*"].values[0] > 0.5
        assert math.isnan(made["sentiment of review_*"].values[1])


@given(st.integers(0, len(RECORDS) - 1), st.sampled_from(list(KINDS)))
def test_another_item_changes_nothing_of_what_is_made_of_one(row, lost):
    recipe = derived({"about": ("title", "genres", "year")}, ("review_1",))
    others = [record if at == row else {**record, lost: None} for at, record in enumerate(RECORDS)]
    made, same = (recipe.made(films(records).attributes) for records in (RECORDS, others))
    assert made["about"].texts[row] == same["about"].texts[row]
    np.testing.assert_equal(made["sentiment of review_1"].values[row], same["sentiment of review_1"].values[row])


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        ({"joined": {"about": ("titel",)}}, UnknownAttributeError, "`joined` names 'titel'.*Did you mean 'title'"),
        ({"sentiment": ("plot_*",)}, UnknownAttributeError, r"`sentiment` names 'plot_\*'"),
        ({"sentiment": ("genres",)}, ConfigError, "'genres', which is no text"),
        ({"joined": {"year": ("title",)}}, ConfigError, "makes 'year', and there is an attribute of that name"),
        ({"sentiment": ("title",), "text": {"sentiment of title": "tfidf"}}, ConfigError, "which holds number"),
        ({"attributes": ("abuot",), "joined": {"about": ("title",)}}, UnknownAttributeError, "abuot"),
        ({"attributes": ("title",), "stop_words": ("klingon",)}, ConfigError, "there are none of 'klingon'"),
        ({"attributes": ("title",), "stop_words": ("germann",)}, ConfigError, "Did you mean 'german'"),
    ],
)
def test_what_cannot_be_made_is_refused(config, error, said):
    with pytest.raises(error, match=said):
        FeatureEncoder(FeatureConfig(**config)).fit(films())


def test_stop_words_are_no_terms():
    records = [{"title": "The dog who wasn't there und die anderen"}, {"title": "Der Mann"}]
    every = FeatureEncoder(FeatureConfig(attributes=("title",))).fit(films(records))
    kept = FeatureEncoder(FeatureConfig(attributes=("title",), stop_words=("english", "german"))).fit(films(records))
    terms = kept.transform(films(records).attributes, 2).features["title"].terms
    assert terms == ("dog", "mann")
    assert set(words(" ".join(record["title"].lower() for record in records))) == set(
        every.transform(films(records).attributes, 2).features["title"].terms
    )


def test_a_bundle_knows_what_is_made_of_new_items(tmp_path):
    data = coldray.load_dataset("sample")
    labels = [name for name, one in data.attributes.items() if hasattr(one, "labels")][:2]
    features = {"attributes": [], "joined": {"about": labels}}
    bundle = coldray.fit("content_knn", data, features=features)
    bundle = coldray.load_bundle(bundle.save(tmp_path / "bundle"))
    like = {name: list(labels_of(data, name, 0)) for name in labels}
    more = bundle.add_items({"another": like})
    assert more.features.features["about"].matrix[[-1]].toarray().tolist() == (
        more.features.features["about"].matrix[[0]].toarray().tolist()
    )
    assert more.features.features["about"].matrix[[0]].nnz > 0


def labels_of(data, name, item):
    attribute = data.attributes[name]
    return (str(label) for label in attribute.labels[attribute.matrix[[item]].indices])
