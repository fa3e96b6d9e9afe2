"""The JSON lines of Yelp, on tiny files written here."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from coldray.core.errors import ConfigError, DataFileError, DataFormatError, EmptyDatasetError, UnmatchedUsersError
from coldray.data.sources.registry import SourceConfig, load_dataset
from coldray.data.sources.yelp import _BUSINESS_FILE, _REVIEW_FILE, _USER_FILE, read_yelp
from coldray.features.builder import OF_USERS, FeatureConfig, attribute_names
from contracts.problems import build_features

REVIEWS = [
    ("u2", "b1", 5.0, "2018-07-07 22:09:11"),
    ("u1", "b1", 3.0, "2012-01-03 15:28:18"),
    ("u1", "b2", 1.0, "2014-02-05"),
    ("u1", "b1", 4.0, "2013-01-03 15:28:18"),
]
BUSINESSES = [
    ("b1", 'Joe\'s, "Diner"', "Café-Ville", "PA", "Diners, Breakfast & Brunch"),
    ("b2", "Gone", "Tampa", "FL", None),
    ("b9", "Never reviewed", "Reno", "NV", "Bars"),
]


def review(user, business, stars, date):
    return {
        "review_id": "r", "user_id": user, "business_id": business, "stars": stars, "useful": 0,
        "text": 'words\n"quoted"', "date": date,
    }  # fmt: skip


def business(key, name, city, state, categories):
    return {
        "business_id": key, "name": name, "city": city, "state": state, "stars": 4.5, "review_count": 9,
        "attributes": {"WiFi": "u'free'"}, "categories": categories, "hours": None,
    }  # fmt: skip


def person(key, friends="None", since="2010-07-02 12:00:00", **changes):
    """Return a user as the files have one; the documentation has `friends` as a list, the files as ``a, b``."""
    return {
        "user_id": key, "name": "Ann", "review_count": 3, "yelping_since": since, "useful": 1, "elite": "2012,2013",
        "friends": friends, "fans": 2, "average_stars": 3.5, "compliment_hot": 0, **changes,
    }  # fmt: skip


def write(folder, reviews=None, businesses=None, people=None):
    folder.mkdir(parents=True, exist_ok=True)
    reviews = [review(*row) for row in REVIEWS] if reviews is None else reviews
    businesses = [business(*row) for row in BUSINESSES] if businesses is None else businesses
    files = {_REVIEW_FILE: reviews, _BUSINESS_FILE: businesses} | ({} if people is None else {_USER_FILE: people})
    for name, rows in files.items():
        (folder / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return folder


def test_stars_and_times_are_kept(tmp_path):
    dataset = read_yelp(write(tmp_path)).of_clicked_items()
    assert dataset.name == "yelp"
    assert dataset.user_ids.tolist() == ["u1", "u2"]
    assert dataset.item_ids.tolist() == ["b1", "b2"]
    assert dataset.ratings.toarray().tolist() == [[4, 1], [5, 0]]
    assert dataset.timestamps.toarray().tolist() == [[1357226898, 1391558400], [1531001351, 0]]


def test_a_business_that_nobody_reviewed_is_an_item_known_by_its_categories(tmp_path):
    dataset = read_yelp(write(tmp_path))
    assert dataset.item_ids.tolist() == ["b1", "b2", "b9"]
    assert dataset.clicked_items.tolist() == [0, 1]
    assert dataset.attributes["name"].texts[2] == "Never reviewed"
    assert "Bars" in dataset.attributes["categories"].labels


def test_of_repeated_reviews_the_latest_counts(tmp_path):
    for reviews in (REVIEWS, REVIEWS[::-1]):
        dataset = read_yelp(write(tmp_path, reviews=[review(*row) for row in reviews]))
        assert dataset.ratings[0, 0] == 4
        assert dataset.provenance["reviews_repeated"] == 1
        assert dataset.provenance["ratings"] == 3


def test_categories_and_places_are_labels_and_popularity_is_not_read(tmp_path):
    dataset = read_yelp(write(tmp_path)).of_clicked_items()
    categories = dataset.attributes["categories"]
    assert categories.labels.tolist() == ["Breakfast & Brunch", "Diners"]
    assert categories.matrix.toarray().tolist() == [[1, 1], [0, 0]]
    assert dataset.attributes["city"].labels.tolist() == ["Café-Ville", "Tampa"]
    assert dataset.attributes["state"].labels.tolist() == ["FL", "PA"]
    assert dataset.attributes["name"].texts == ('Joe\'s, "Diner"', "Gone")
    assert list(dataset.attributes) == ["categories", "city", "state", "name"]
    assert list(build_features(dataset).features) == ["categories", "city"]


def test_a_business_that_is_not_described_is_kept_and_counted(tmp_path):
    dataset = read_yelp(write(tmp_path, businesses=[business(*BUSINESSES[1])]))
    assert dataset.item_ids.tolist() == ["b1", "b2"]
    assert dataset.provenance["catalogue"]["clicked_items_without_row"] == 1
    assert dataset.attributes["name"].texts == ("", "Gone")


@pytest.mark.parametrize("name", [_REVIEW_FILE, _BUSINESS_FILE])
def test_an_absent_file_is_named_with_the_way_out(tmp_path, name):
    (write(tmp_path) / name).unlink()
    with pytest.raises(DataFileError, match=rf"no {name}\. .*--data-dir"):
        read_yelp(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reviews": [review("u", "b", 3, "1 May")]}, r"review\.json, line 1: date is '1 May', not a number"),
        ({"reviews": [review(*REVIEWS[0]), review("u", "b", "many", "2018-07-07")]}, r"line 2: rating is 'many'"),
        ({"reviews": [{"business_id": "b", "stars": 3, "date": "2018-07-07"}]}, r"line 1: user is blank"),
        ({"businesses": [{"name": "no id"}]}, r"business\.json, line 1: item is blank"),
        ({"businesses": [business(*BUSINESSES[0])] * 2}, r"business\.json has 1 repeated rows.*item 'b1'"),
    ],
)
def test_what_is_malformed_is_named_with_its_line(tmp_path, changes, message):
    with pytest.raises(DataFormatError, match=message):
        read_yelp(write(tmp_path, **changes))


@pytest.mark.parametrize("name", [_REVIEW_FILE, _BUSINESS_FILE])
def test_a_line_that_is_no_json_is_an_error(tmp_path, name):
    with (write(tmp_path) / name).open("a") as file:
        file.write('{"business_id": \n')
    with pytest.raises(DataFormatError, match=rf"{name} in .* is malformed"):
        read_yelp(tmp_path)


def test_no_review_is_an_error(tmp_path):
    with pytest.raises(EmptyDatasetError, match=r"review\.json has no interactions"):
        read_yelp(write(tmp_path, reviews=[]))


def friends_of(dataset):
    found = dataset.user_attributes["friends"]
    return {user: set(found.labels[found.matrix[[row]].indices]) for row, user in enumerate(dataset.user_ids.tolist())}


def notes_of(dataset, file):
    return [note for note in dataset.notes if note.startswith(file)]


def test_users_have_what_the_file_tells_of_those_with_a_review(tmp_path):
    assert not read_yelp(write(tmp_path)).user_attributes
    people = [
        person("u9", "u1"),  # no review: left out
        person("u1", "u9, u2", fans=None, since="2012-12-31"),
        person("u2", ["u8", "u1"], average_stars=""),
    ]
    dataset = read_yelp(write(tmp_path, people=people))
    known = {name: found.values.tolist() for name, found in dataset.user_attributes.items() if name != "friends"}
    assert known["yelping_since"] == [pytest.approx(2012 + 365 / 366), pytest.approx(2010 + 182 / 365)]
    assert known["review_count"] == [3, 3]
    np.testing.assert_array_equal(known["fans"], [np.nan, 2])
    np.testing.assert_array_equal(known["average_stars"], [3.5, np.nan])
    assert friends_of(dataset) == {"u1": {"u1", "u2"}, "u2": {"u1", "u2"}}
    unknown, friends, rows = notes_of(dataset, _USER_FILE)
    assert "of 2 users with reviews, average_stars of 1, fans of 1." in unknown
    assert "2 of the 4 friends of users with reviews have reviews" in friends
    assert "0 of 2 users have no friend" in friends
    assert "1 of 3 rows are left out, as they are of users without a click" in rows


def test_what_comes_of_a_users_reviews_is_read_where_it_is_named_alone(tmp_path):
    users = read_yelp(write(tmp_path, people=[person("u1", "u2"), person("u2")])).of_users
    assert attribute_names(users, OF_USERS) == ("friends", "yelping_since")
    assert attribute_names(users, FeatureConfig(attributes=("average_stars",))) == ("average_stars",)


def test_a_user_without_a_row_or_a_friend_is_counted(tmp_path):
    dataset = read_yelp(write(tmp_path, people=[person("u1", friends=None)]))
    assert friends_of(dataset) == {"u1": set(), "u2": set()}
    assert np.isnan(dataset.user_attributes["fans"].values[1])
    friends, rows = notes_of(dataset, _USER_FILE)
    assert "0 of the 0 friends" in friends
    assert "1 of 1 users have no friend" in friends
    assert "1 of 2 users have no row" in rows


@settings(max_examples=30)
@given(st.sets(st.tuples(st.integers(0, 5), st.integers(0, 7)).filter(lambda pair: pair[0] != pair[1]), min_size=1))
def test_two_users_have_a_label_in_common_who_are_friends_or_have_one_with_a_review(tmp_path_factory, pairs):
    reviews = [review(f"u{number}", "b1", 3.0, "2015-01-01") for number in range(6)]
    people = [person(f"u{one}", ", ".join(f"u{b}" for a, b in sorted(pairs) if a == one) or "None") for one in range(6)]
    dataset = read_yelp(write(tmp_path_factory.mktemp("friends"), reviews=reviews, people=people))
    kept = {(a, b) for a, b in pairs if b < 6}
    near = {one: {b for a, b in kept | {(b, a) for a, b in kept} if a == one} for one in range(6)}
    found = friends_of(dataset)
    for one, other in itertools.combinations(range(6), 2):
        shared = bool(found[f"u{one}"] & found[f"u{other}"])
        assert shared == (other in near[one] or bool(near[one] & near[other]))


def test_the_first_reviews_of_a_business_are_its_texts_and_no_track_has_them_unless_it_names_them(tmp_path):
    told = [("b1", "2012", "second"), ("b1", "2011", " first "), ("b1", "2013", "third"), ("b2", "2012", " ")]
    reviews = [
        {**review(f"u{row}", item, 3.0, f"{year}-01-01"), "text": text} for row, (item, year, text) in enumerate(told)
    ]
    dataset = read_yelp(write(tmp_path, reviews=reviews), reviews=2)
    assert dataset.item_ids.tolist() == ["b1", "b2", "b9"]
    texts = {name: dataset.attributes[name].texts for name in ("review_1", "review_2")}
    assert texts == {"review_1": ("first", "", ""), "review_2": ("second", "", "")}
    assert "1 of 4 reviews are beyond, and 2 of 3 businesses have no text." in dataset.notes[-1]
    assert attribute_names(dataset, FeatureConfig(attributes="all")) == ("categories", "city", "state", "name")
    assert not set(texts) & set(dataset.default_attributes)
    assert set(build_features(dataset, FeatureConfig(attributes=("review_1",), min_items=1)).features) == {"review_1"}
    assert "review_1" not in read_yelp(tmp_path).attributes


@pytest.mark.parametrize(
    ("people", "message"),
    [
        ([person("u1"), person("u1")], r"user\.json has 1 repeated rows.*item 'u1'"),
        ([person("")], r"user\.json, line 1: item is blank"),
        ([person("u2"), person("u1", since="in May")], r"column 'yelping_since': 1 values are no number.*'in May'"),
        ([person("u1", fans="many")], r"column 'fans': 1 values are no number.*'many'"),
        ([person("z1")], r"user\.json and .* have no user in common"),
    ],
)
def test_what_is_wrong_in_the_file_of_users_is_named(tmp_path, people, message):
    with pytest.raises((DataFormatError, UnmatchedUsersError), match=message):
        read_yelp(write(tmp_path, people=people))


def test_how_many_reviews_are_texts_is_asked_of_yelp_alone(tmp_path):
    folder = write(tmp_path / "yelp")
    assert "review" in load_dataset(SourceConfig(name="yelp", data_dir=folder, reviews=1)).attributes
    with pytest.raises(ConfigError, match=r"data\.reviews: 3 .* by 'yelp' alone, not by 'lastfm'"):
        SourceConfig(name="lastfm", reviews=3)
    with pytest.raises(ValidationError, match="less than or equal to 10"):
        SourceConfig(name="yelp", reviews=11)


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.integers(0, 3),
            st.integers(1, 5),
            st.datetimes().map(lambda t: t.replace(year=2015, month=3, day=1 + t.day % 28)),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_the_latest_of_what_is_written_is_read_back(tmp_path_factory, rows):
    written = [review(f"u{u}", f"b{b}", float(stars), f"{time:%Y-%m-%d %H:%M:%S}") for u, b, stars, time in rows]
    businesses = [business(f"b{number}", "A", "B", "C", "D") for number in range(4)]
    dataset = read_yelp(write(tmp_path_factory.mktemp("random"), reviews=written, businesses=businesses))
    latest = {}
    for u, b, stars, time in rows:
        latest.setdefault((f"u{u}", f"b{b}"), []).append((f"{time:%Y-%m-%d %H:%M:%S}", stars))
    found = {}
    for row, column in zip(*dataset.interactions.nonzero(), strict=True):
        moment = np.datetime64(int(dataset.timestamps[row, column]), "s").astype(str).replace("T", " ")
        pair = str(dataset.user_ids[row]), str(dataset.item_ids[column])
        found[pair] = moment, int(dataset.ratings[row, column])
    assert found == {pair: max(values) for pair, values in latest.items()}
