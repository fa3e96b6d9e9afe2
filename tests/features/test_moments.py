import json
import math
from datetime import UTC, datetime
from statistics import mean, pstdev

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from coldray.core import extras
from coldray.core.errors import ConfigError, MissingExtraError, MissingFieldError, UnknownAttributeError
from coldray.data.dataset import Dataset, LabelAttribute, NumberAttribute
from coldray.features import moment_words
from coldray.features.builder import FeatureConfig
from coldray.features.feature_set import ScalarFeature, VectorFeature
from coldray.features.known_clicks import KnownClicks
from coldray.features.moment_words import WORDS, Past, Taste
from coldray.features.moments import MomentEncoder, ReadMoments, asked_features, moment_attributes
from contracts.pasts import DAY, N_ITEMS, N_USERS, TIMES, before, clicks, known, moments

WITH_GIVEN = clicks(TIMES | st.just(-np.inf))
"""Clicks, and those of a given history, of which no more is known than that they were before any moment."""
ASKED = st.lists(st.tuples(st.integers(-1, N_USERS), TIMES), min_size=1, max_size=6)
GENRES = LabelAttribute(
    sp.csr_array(np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]], np.float32)),
    np.array(["crime", "drama", "war"]),
)


def of_asker(rows, user, time):
    """Compute the numbers from clicks looked at one after the other."""
    turn = {
        name: 2 * math.pi * (time % length) / length for name, length in (("hour", DAY), ("season", 365.2425 * DAY))
    }
    turn["weekday"] = 2 * math.pi * (time // DAY % 7) / 7
    found = {f"{name}:{wave.__name__}": wave(angle) for name, angle in turn.items() for wave in (math.sin, math.cos)}
    past = [row for row in rows if row[0] == user and before(row, time)]
    times = [row[2] for row in past if math.isfinite(row[2])]
    ratings = [row[3] for row in past if not math.isnan(row[3])]
    found["activity"] = math.log1p(len(past))
    found["gap"] = math.log1p(time - max(times)) if times else math.nan
    found["tenure"] = math.log1p(time - min(times)) if times and -math.inf not in [row[2] for row in past] else math.nan
    for wave in (math.sin, math.cos):
        hours = [wave(2 * math.pi * (stamp % DAY) / DAY) for stamp in times]
        found[f"rhythm:{wave.__name__}"] = mean(hours) if hours else math.nan
    found["rating_mean"] = mean(ratings) if ratings else math.nan
    found["rating_spread"] = pstdev(ratings) if len(ratings) > 1 else math.nan
    return found


def numbers(rows, asked):
    past = Past(moments([user for user, _ in asked], [time for _, time in asked]), known(rows))
    return {name: one.values for name, one in moment_attributes(past, tuple(WORDS)).items()}


@given(WITH_GIVEN, ASKED)
def test_numbers_are_those_of_clicks_looked_at_one_by_one(rows, asked):
    for name, values in numbers(rows, asked).items():
        slow = [of_asker(rows, *pair)[name.removeprefix("at:")] for pair in asked]
        np.testing.assert_allclose(values, slow, atol=1e-6, err_msg=name)


@given(WITH_GIVEN, WITH_GIVEN, ASKED, TIMES.filter(np.isfinite))
def test_what_comes_at_a_moment_or_later_changes_nothing(rows, others, asked, now):
    asked = [(user, np.fmin(time, now)) for user, time in asked]
    past, future = (row for row in rows if row[2] < now), (row for row in others if not row[2] < now)
    changed = [*past, *future]
    before, after = numbers(rows, asked), numbers(changed, asked)
    for name, values in before.items():
        np.testing.assert_allclose(after[name], values, atol=1e-6, err_msg=name)
    labels = Taste(sp.csc_array(GENRES.matrix), tuple(GENRES.labels))
    at = moments(*map(list, zip(*asked, strict=True)))
    taste, same = (labels.shares(Past(at, known(some))).matrix.toarray() for some in (rows, changed))
    np.testing.assert_allclose(same, taste, atol=1e-6)


def test_the_season_is_the_day_of_the_year():
    for year in (1970, 1999, 2024, 2100):
        of = numbers([], [(0, datetime(year, month, 1, tzinfo=UTC).timestamp()) for month in (1, 7)])
        np.testing.assert_allclose(of["at:season:cos"], [1, -1], atol=0.01)
        np.testing.assert_allclose(of["at:season:sin"], [0, 0], atol=0.06)


def films(rows, *, timed=True, rated=True, labels=("genres",), **fields):
    """Return a dataset of the first click of each pair."""
    rows = list({row[:2]: row for row in reversed(rows)}.values())
    users, items, times, ratings = np.array(rows, float).T

    def matrix(values, dtype):
        return sp.csr_array((np.asarray(values, dtype), (users.astype(int), items.astype(int))), (N_USERS, N_ITEMS))

    return Dataset(
        name="films",
        user_ids=np.arange(N_USERS),
        item_ids=np.arange(N_ITEMS),
        interactions=matrix(np.ones(len(rows)), np.float32),
        attributes={"genres": GENRES, "year": NumberAttribute(np.arange(4.0))},
        default_attributes=labels,
        ratings=matrix(ratings, np.float32) if rated else None,
        timestamps=matrix(times, np.int64) if timed else None,
        **fields,
    )


ROWS = [(0, 0, 2 * DAY, 4.0), (0, 1, 3 * DAY, 2.0), (0, 3, 5 * DAY, 3.0), (1, 2, 4 * DAY, 5.0), (2, 1, 9 * DAY, 1.0)]
PLAIN = FeatureConfig()


def read(config=PLAIN, data=None, train=None):
    data = films(ROWS) if data is None else data
    train = data.interactions if train is None else train
    return ReadMoments.of(config, data, sp.csr_array((np.arange(1, train.nnz + 1), train.indices, train.indptr)))


def test_a_taste_is_the_share_of_labels_among_earlier_clicks():
    found = read(FeatureConfig(attributes=("taste",))).moments
    taste = found.features.features["at:taste"]
    assert isinstance(taste, VectorFeature)
    assert taste.terms == ("genres: crime", "genres: drama")  # nobody clicked a film of war
    np.testing.assert_allclose(taste.matrix.toarray(), [[0, 0], [1, 0], [1, 0.5], [0, 0], [0, 0]])
    assert taste.matrix.nnz == 3


def test_the_most_clicked_labels_make_a_taste_and_the_others_are_told(monkeypatch, caplog):
    monkeypatch.setattr(moment_words, "_MOST_LABELS", 1)
    taste = read(FeatureConfig(attributes=("taste",)), films(ROWS[1:])).moments.features.features["at:taste"]
    assert taste.terms == ("genres: drama",)
    assert "the 1 most clicked labels of 2" in caplog.text


def test_an_encoder_is_kept_with_its_taste():
    made = read(FeatureConfig(attributes=("taste", "gap", "item_age")))
    arrays = {name: value for name, value in made.encoder.state().items() if isinstance(value, np.ndarray)}
    rest = {name: value for name, value in made.encoder.state().items() if name not in arrays}
    encoder = MomentEncoder.from_state({**json.loads(json.dumps(rest)), **arrays})
    assert (encoder.names, encoder.of_items) == (("taste", "gap", "item_age"), ("item_age",))
    later = KnownClicks(*(np.array(one) for one in ([0, 0, 0], [0, 1, N_ITEMS], [-np.inf, DAY, -np.inf], [np.nan] * 3)))
    asked = moments([0, 1], [2 * DAY, 2 * DAY])
    for one in (made.encoder, encoder):
        found = one.encode(asked, later).features
        np.testing.assert_allclose(
            found["at:taste"].matrix.toarray(), [[1, 0.5], [0, 0]]
        )  # of a later item nothing is known
        np.testing.assert_allclose(found["at:gap"].values, [np.log1p(DAY), np.nan])


def test_words_of_items_are_for_the_model_to_make():
    found = read(FeatureConfig(attributes=("item_trend", "gap", "item_age"))).moments
    assert found.of_items == ("item_trend", "item_age")
    assert list(found.features.features) == ["at:time", "at:gap"]


def test_who_asks_is_described_by_what_was_known_before_the_first_click_held_out():
    data = films(ROWS)
    rows = sp.csr_array((np.arange(1, 6), data.interactions.indices, data.interactions.indptr))
    train = rows.copy()
    train.data[[1, 2, 4]] = 0  # known are the first click of users 0 and 1
    train.eliminate_zeros()
    held_out = rows.copy()
    held_out.data[[0, 3]] = 0
    held_out.eliminate_zeros()
    made = ReadMoments.of(FeatureConfig(attributes=("activity", "gap", "rating_mean")), data, train)
    asked = asked_features(made.encoder, data, train=train, given=None, held_out=held_out).features
    np.testing.assert_allclose(asked["at:time"].values, [3 * DAY, np.nan, 9 * DAY])
    np.testing.assert_allclose(asked["at:activity"].values, np.log1p([1, 1, 0]))
    np.testing.assert_allclose(asked["at:gap"].values, [np.log1p(DAY), np.nan, np.nan])
    np.testing.assert_allclose(asked["at:rating_mean"].values, [4, 5, np.nan])


def test_who_asks_brings_what_they_had_clicked_before_where_a_word_is_of_pairs():
    made = read(FeatureConfig(attributes=("item_walk", "gap")))
    assert "at:earlier" not in made.moments.features.features
    given = (-np.inf, np.nan)
    rows = [*ROWS, (2, 0, *given), (2, N_ITEMS, *given)]  # the last item came later
    found = made.encoder.encode_asked(moments([0, 0, 2, -1], [2 * DAY + 1, np.nan, DAY, DAY]), known(rows))
    earlier = found.features["at:earlier"].matrix
    np.testing.assert_array_equal(earlier.toarray(), [[1, 0, 0, 0], [1, 2, 0, 3], [1, 0, 0, 0], [0, 0, 0, 0]])
    plain = read(FeatureConfig(attributes=("gap",))).encoder
    assert "at:earlier" not in plain.encode_asked(moments([0], [DAY]), known(rows)).features


def test_all_words_are_those_that_something_is_known_for(caplog):
    full = read(FeatureConfig(attributes="all")).moments
    assert len(full.features.features) == 1 + sum(map(len, WORDS.values())) + 2
    assert len(full.of_items) == 12
    assert "'at:pagerank' has no values" in caplog.text  # of five clicks there is no graph yet
    caplog.clear()
    bare = read(FeatureConfig(attributes="all"), films(ROWS, timed=False, rated=False, labels=("year",)))
    assert list(bare.moments.features.features) == ["at:time", "at:activity"]
    assert bare.moments.of_items == ()
    assert list(read(data=films(ROWS, timed=False)).moments.features.features) == ["at:time", "at:activity"]
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("words", "lacking", "error", "said"),
    [
        (("gapp",), {}, UnknownAttributeError, "no feature of moments 'gapp'. Did you mean 'gap'"),
        (("item_trends",), {}, UnknownAttributeError, "Did you mean 'item_trend'"),
        (("gap",), {"timed": False}, MissingFieldError, "'gap' is made of times of clicks, and none is known"),
        (("item_walk",), {"timed": False}, MissingFieldError, "'item_walk' is made of times of clicks"),
        (("pagerank",), {"timed": False}, MissingFieldError, "'pagerank' is made of times of clicks"),
        (("item_age",), {"timed": False}, MissingFieldError, "'item_age' is made of times of clicks"),
        (("rating_spread",), {"rated": False}, MissingFieldError, "made of ratings of clicks, and there are none"),
        (("item_rating_mean",), {"rated": False}, MissingFieldError, "made of ratings of clicks"),
        (("taste",), {"labels": ("year",)}, MissingFieldError, "made of labels of items"),
    ],
)
def test_words_that_nothing_is_known_for_are_refused(words, lacking, error, said):
    with pytest.raises(error, match=said):
        read(FeatureConfig(attributes=words), films(ROWS, **lacking))


@pytest.mark.parametrize("words", [("pagerank",), ("item_pagerank",), ("gap", "item_community"), "all"])
def test_words_that_a_library_computes_need_its_extra(words, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"needs sknetwork, .* pip install 'coldray\[graph\]'"):
        read(FeatureConfig(attributes=words))
    read(FeatureConfig(attributes=("gap", "item_walk")))


def test_columns_of_context_are_read_and_may_not_be_called_like_a_word():
    device = NumberAttribute(np.array([1.0, 2.0]))
    rows = films(ROWS).interactions.astype(np.int64)
    rows.data[:] = [0, 1, 1, 0, 1]
    found = read(data=films(ROWS, context={"device": device}, context_rows=rows)).moments.features.features
    assert isinstance(found["at:device"], ScalarFeature)
    np.testing.assert_array_equal(found["at:device"].values, [1, 2, 2, 1, 2])
    for name in ("taste", "time", "hour:sin"):
        with pytest.raises(ConfigError, match=f"'{name}' is called like a feature of moments"):
            read(data=films(ROWS, context={name: device}, context_rows=rows))
