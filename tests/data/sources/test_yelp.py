"""The JSON lines of Yelp, on tiny files written here."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import DataFileError, DataFormatError, EmptyDatasetError
from coldray.data.sources.yelp import _BUSINESS_FILE, _REVIEW_FILE, read_yelp
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


def write(folder, reviews=None, businesses=None):
    folder.mkdir(parents=True, exist_ok=True)
    reviews = [review(*row) for row in REVIEWS] if reviews is None else reviews
    businesses = [business(*row) for row in BUSINESSES] if businesses is None else businesses
    for name, rows in ((_REVIEW_FILE, reviews), (_BUSINESS_FILE, businesses)):
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
