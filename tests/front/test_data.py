"""Datasets from names, files and frames, and splits of them."""

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import coldray
from coldray.core.errors import ConfigError, DataFileError, DataFormatError, EmptyDatasetError
from coldray.data.filters import FilterConfig
from coldray.data.tables.numbers import MISSING

COLUMNS = {"item": "film", "rating": "stars", "timestamp": "at"}
KNOWN = {"labels": ["genre"], "numbers": ["year"], "texts": ["title"]}
CLICKS = {"user_id": ["ann", "ann", "bob"], "film": [1, 2, 2], "stars": [4.0, 2.5, 5.0], "at": [30, 10, 20]}
FILMS = {
    "film": [1, 2, 3],
    "genre": [["war"], ["war", "drama"], ["drama"]],
    "year": [1999.0, None, 2001.0],
    "title": ["One", "Two", None],
}
KINDS = {
    "mapping": dict,
    "polars": pl.DataFrame,
    "lazy": lambda columns: pl.DataFrame(columns).lazy(),
    "arrow": pa.table,
    "pandas": lambda columns: pl.DataFrame(columns).to_pandas(),
    "pandas of arrow": lambda columns: pl.DataFrame(columns).to_pandas(use_pyarrow_extension_array=True),
}
ids = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=12),
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).filter(
            lambda text: text.lower() not in MISSING  # which stands for no id, among ids that are numbers
        ),
        min_size=3,
        max_size=12,
    ),
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_of_any_library_is_the_dataset_of_its_parquet_files(kind, tmp_path):
    for name, columns in (("clicks", CLICKS), ("films", FILMS)):
        pl.DataFrame(columns).write_parquet(tmp_path / f"{name}.parquet")
    stored = coldray.load_dataset(tmp_path / "clicks.parquet", str(tmp_path / "films.parquet"), **COLUMNS, **KNOWN)
    make = KINDS[kind]
    dataset = coldray.load_dataset(make(CLICKS), make(FILMS), **COLUMNS, **KNOWN)
    assert dataset.fingerprint == stored.fingerprint
    assert (dataset.name, stored.name) == ("frame", "clicks")
    assert dataset.n_unclicked_items == 1


@given(ids, st.sampled_from(sorted(set(KINDS) - {"mapping"})))
def test_ids_stay_what_they_are_whatever_frame_they_come_in(items, kind):
    clicks = {"user_id": list(range(len(items))), "item_id": items}
    dataset = coldray.load_dataset(KINDS[kind](clicks))
    assert dataset.item_ids.tolist() == sorted(set(items))
    clicked = dataset.interactions.tocoo()
    assert {(user, dataset.item_ids[item]) for user, item in zip(*clicked.coords, strict=True)} == set(enumerate(items))


def test_files_are_read_by_their_endings_and_named(tmp_path):
    pl.DataFrame({"user_id": [1, 2], "item_id": [7, 8]}).write_csv(tmp_path / "shop.csv")
    assert coldray.load_dataset(str(tmp_path / "shop.csv")).name == "shop"
    assert coldray.load_dataset(tmp_path / "shop.csv", name="mine").name == "mine"


def test_a_known_dataset_is_read_with_its_own_options():
    assert coldray.load_dataset("sample", seed=1).fingerprint != coldray.load_dataset("sample").fingerprint


def test_filters_are_applied_and_noted():
    filters = {"min_user_interactions": 2}
    dataset = coldray.load_dataset(CLICKS, item="film", filters=filters)
    assert dataset.user_ids.tolist() == ["ann"]
    assert coldray.load_dataset(CLICKS, item="film", filters=FilterConfig(**filters)).fingerprint == dataset.fingerprint


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        (("sampel",), {}, ConfigError, "Did you mean 'sample'"),
        (("sample", FILMS), {}, ConfigError, "'items' describes data of your own"),
        (("sample",), {"user": "u"}, ConfigError, "'user' describes data of your own"),
        (("sample",), {"sede": 3}, ConfigError, "Did you mean 'seed'"),
        (("csv",), {}, ConfigError, "is a format"),
        (("no/clicks.csv",), {}, DataFileError, "does not exist"),
        ((CLICKS, "films.csv"), {"item": "film"}, ConfigError, "both files, or both frames"),
        ((CLICKS,), {"item": "flim"}, DataFormatError, "Did you mean 'film'"),
        ((CLICKS,), {"item": "film", "labels": ["genre"]}, ConfigError, "no items table"),
        ((CLICKS,), {"item": "film", "seed": 3}, ConfigError, "'seed' is read for a dataset with a name"),
        ((CLICKS,), {"item": "film", "filters": {"min_item": 3}}, ConfigError, "unknown field 'min_item'"),
        (({"user_id": [1.5], "item_id": [1]},), {}, DataFormatError, "ids must be whole numbers or text"),
        (({"user_id": [1, "a"], "item_id": [1, 2]},), {}, DataFormatError, "'user_id' cannot be read"),
        (({"user_id": [1], "item_id": [1, 2]},), {}, DataFormatError, "columns of 1, 2 values"),
        (({"user_id": [], "item_id": []},), {}, (EmptyDatasetError, DataFormatError), ""),
        ((7,), {}, DataFormatError, "a frame of polars, pandas or arrow"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(arguments, options, error, words):
    with pytest.raises(error) as raised:
        coldray.load_dataset(*arguments, **options)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_two_columns_of_one_name_are_refused():
    pandas = pytest.importorskip("pandas")
    for frame in (pa.table([[1], [2]], names=["a", "a"]), pandas.DataFrame([[1, 2]], columns=["a", "a"])):
        with pytest.raises(DataFormatError, match="column 'a' 2 times"):
            coldray.load_dataset(frame)


def test_a_dataset_shows_what_it_holds():
    dataset = coldray.load_dataset(CLICKS, FILMS, **COLUMNS, **KNOWN, name="<films>")
    known = "genre (2 labels), year (number), title (text)"
    assert repr(dataset) == f"Dataset '<films>': 2 users, 3 items (1 without interactions), 3 interactions; {known}"
    html = dataset._repr_html_()
    assert "&lt;films&gt;" in html
    assert "<films>" not in html
    assert "ratings and timestamps" in html
    assert dataset.notes[0] in html


def test_a_split_is_that_of_a_study_by_its_number():
    dataset = coldray.load_dataset("sample")
    first, third = (coldray.split(dataset, "item-cold", seed=7, number=number) for number in (0, 2))
    again = coldray.split(dataset, "notebook", seed=7)
    assert first.test_items.tolist() == again.test_items.tolist() != third.test_items.tolist()
    assert (third.split, third.seed) == (2, 7)
    assert "100 test items" in repr(first)
    assert "test items" in first._repr_html_()


@pytest.mark.parametrize(
    ("protocol", "options", "words"),
    [
        ("itemcold", {}, "Did you mean 'item-cold'"),
        ("leave-last", {}, "no timestamps"),
        ("item-cold", {"test_share": 0.3}, "not read by the protocol"),
        ("holdout", {"shares": 3}, "unknown field 'shares'"),
        ("predefined", {}, "come with the data"),
    ],
)
def test_a_split_that_cannot_be_drawn_is_refused(protocol, options, words):
    with pytest.raises(ConfigError, match=words):
        coldray.split(coldray.load_dataset("sample"), protocol, **options)
