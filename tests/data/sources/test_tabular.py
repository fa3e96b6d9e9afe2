"""Bring-your-own tables, as parquet and as CSV."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import ConfigError, DataFileError, DataFormatError, EmptyDatasetError, UnmatchedItemsError
from coldray.data.dataset import LabelAttribute, NumberAttribute
from coldray.data.sources.tabular import TabularConfig, read_tabular

CLICKS = {"user_id": ["u2", "u1", "u2"], "item_id": ["b", "a", "c"], "stars": [4.5, 1.0, 0.0], "at": [20, 10, 0]}
ITEMS = {
    "item_id": ["c", "a", "z"],
    "tags": ["x|y| x ", None, "never"],
    "price": [1.5, None, 2.0],
    "about": ["some, text", None, "gone"],
}


def write(path, columns) -> str:
    table = pl.DataFrame(columns, strict=False)
    if path.suffix == ".parquet":
        table.write_parquet(path)
    else:
        table.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return str(path)


@pytest.fixture(params=["parquet", "csv"])
def kind(request):
    return request.param


def read(folder, kind, clicks=None, items=None, **options):
    given = {"interactions": write(folder / f"clicks.{kind}", clicks or CLICKS)}
    if items is not None:
        given["items"] = write(folder / f"items.{kind}", items)
    return read_tabular(TabularConfig(**given, **options), "csv" if kind == "tsv" else kind)


def full(folder, kind):
    return read(
        folder,
        kind,
        items=ITEMS,
        rating_column="stars",
        timestamp_column="at",
        label_columns=("tags",),
        number_columns=("price",),
        text_columns=("about",),
    )


def test_every_part_is_read(tmp_path, kind):
    everything = full(tmp_path, kind)
    assert everything.item_ids.tolist() == ["a", "b", "c", "z"]
    dataset = everything.of_clicked_items()
    assert dataset.name == "clicks"
    assert dataset.user_ids.tolist() == ["u1", "u2"]
    assert dataset.item_ids.tolist() == ["a", "b", "c"]
    assert dataset.interactions.toarray().tolist() == [[1, 0, 0], [0, 1, 1]]
    assert dataset.ratings.toarray().tolist() == [[1, 0, 0], [0, 4.5, 0]]
    assert dataset.timestamps.toarray().tolist() == [[10, 0, 0], [0, 20, 0]]
    assert dataset.ratings.nnz == dataset.timestamps.nnz == 3
    assert dataset.attributes["tags"].labels.tolist() == ["x", "y"]
    assert dataset.attributes["tags"].matrix.toarray().tolist() == [[0, 0], [0, 0], [1, 1]]
    np.testing.assert_array_equal(dataset.attributes["price"].values, [np.nan, np.nan, 1.5])
    assert dataset.attributes["about"].texts == ("", "", "some, text")
    assert dataset.default_attributes == ("tags", "price", "about")


def test_provenance_counts_items_on_one_side_only(tmp_path, kind):
    provenance = full(tmp_path, kind).provenance
    counts = {name: provenance["catalogue"][name] for name in ("rows", "rows_without_clicks", "clicked_items")}
    assert counts == {"rows": 3, "rows_without_clicks": 1, "clicked_items": 3}
    assert provenance["catalogue"]["clicked_items_without_row"] == provenance["catalogue"]["clicks_without_row"] == 1
    assert provenance["items"] == f"items.{kind}"


def test_an_item_that_nobody_clicked_is_known_by_its_attributes(tmp_path, kind):
    dataset = full(tmp_path, kind)
    assert dataset.n_unclicked_items == 1
    assert dataset.interactions.toarray()[:, 3].tolist() == [0, 0]
    assert dataset.attributes["tags"].labels.tolist() == ["never", "x", "y"]
    assert dataset.attributes["price"].values[3] == 2.0
    assert dataset.attributes["about"].texts[3] == "gone"
    assert dataset.density == 0.5


def test_parquet_csv_and_tsv_of_the_same_data_are_the_same_dataset(tmp_path):
    assert len({full(tmp_path, kind).fingerprint for kind in ("parquet", "csv", "tsv")}) == 1


def test_without_items_there_are_no_attributes(tmp_path, kind):
    dataset = read(tmp_path, kind)
    assert dict(dataset.attributes) == {}
    assert dataset.ratings is None
    assert dataset.timestamps is None


def test_whole_numbers_are_ordered_as_numbers(tmp_path, kind):
    dataset = read(tmp_path, kind, clicks={"user_id": [10, 9], "item_id": [100, 20]})
    assert dataset.user_ids.tolist() == [9, 10]
    assert dataset.item_ids.dtype == np.int64
    assert dataset.interactions.toarray().tolist() == [[1, 0], [0, 1]]


def test_ids_with_leading_zeros_stay_text_in_a_csv(tmp_path):
    dataset = read(tmp_path, "csv", clicks={"user_id": ["007", "7"], "item_id": [1, 1]})
    assert dataset.user_ids.tolist() == ["007", "7"]


def test_a_text_id_late_in_a_csv_makes_all_of_them_text(tmp_path):
    count = 20_000
    dataset = read(tmp_path, "csv", clicks={"user_id": [0] * count, "item_id": [*map(str, range(count - 1)), "x"]})
    assert dataset.item_ids[-1] == "x"
    assert dataset.n_items == count


def test_one_id_that_is_no_whole_number_makes_all_of_them_text_and_that_is_told(tmp_path, caplog):
    clicks, items = {"user_id": [1, 1], "item_id": [7, 8]}, {"item_id": ["007", "7"], "name": ["other", "right"]}
    dataset = read(tmp_path, "csv", clicks=clicks, items=items, text_columns=("name",))
    assert dataset.item_ids.tolist() == ["007", "7", "8"]
    assert dataset.attributes["name"].texts == ("other", "right", "")
    assert dataset.provenance["catalogue"]["rows_without_clicks"] == 1
    assert "1 of 2 ids of items.csv are not, or beyond 64 bits with a sign; the first is '007'" in caplog.text


def test_parquet_lists_are_labels(tmp_path):
    items = {"item_id": ["a", "b", "c"], "tags": [["x|y", "z"], [], None], "codes": [[3], [1, 3], [2]]}
    dataset = read(tmp_path, "parquet", items=items, label_columns=("tags", "codes"))
    assert dataset.attributes["tags"].labels.tolist() == ["x|y", "z"]
    assert dataset.attributes["tags"].matrix.toarray().tolist() == [[1, 1], [0, 0], [0, 0]]
    assert dataset.attributes["codes"].matrix.toarray().tolist() == [[0, 0, 1], [1, 0, 1], [0, 1, 0]]


def test_another_separator_and_numeric_labels_are_understood(tmp_path, kind):
    items = {"item_id": ["a", "b", "c"], "tags": ["x;y", "y", ""], "brand": [3, 4, None]}
    dataset = read(tmp_path, kind, items=items, label_columns=("tags", "brand"), label_separator=";")
    assert dataset.attributes["tags"].matrix.toarray().tolist() == [[1, 1], [0, 1], [0, 0]]
    assert dataset.attributes["brand"].labels.tolist() == ["3", "4"]


def test_other_column_names_are_followed_even_confusing_ones(tmp_path, kind):
    clicks = {"item": ["u", "v"], "user": ["a", "b"]}
    items = {"key": ["a", "b"], "item": ["x", "y"], "user": [1.0, 2.0]}
    dataset = read(
        tmp_path,
        kind,
        clicks=clicks,
        items=items,
        user_column="item",
        item_column="user",
        item_id_column="key",
        label_columns=("item",),
        number_columns=("user",),
    )
    assert dataset.user_ids.tolist() == ["u", "v"]
    assert isinstance(dataset.attributes["item"], LabelAttribute)
    assert isinstance(dataset.attributes["user"], NumberAttribute)


def test_a_folder_of_parquet_files_is_one_table(tmp_path):
    (tmp_path / "parts").mkdir()
    for part in range(3):
        write(tmp_path / "parts" / f"{part}.parquet", {"user_id": [part], "item_id": [part]})
    dataset = read_tabular(TabularConfig(interactions=tmp_path / "parts"), "parquet")
    assert dataset.user_ids.tolist() == [0, 1, 2]


def test_parquet_dates_become_seconds(tmp_path):
    clicks = {**CLICKS, "at": [datetime(2000, 1, day, tzinfo=UTC) for day in (1, 2, 3)]}
    dataset = read(tmp_path, "parquet", clicks=clicks, timestamp_column="at")
    assert dataset.timestamps.toarray()[0, 0] == datetime(2000, 1, 2, tzinfo=UTC).timestamp()


def test_categories_are_text_ids(tmp_path):
    users = pl.Series(["u2", "u1", "u2"], dtype=pl.Categorical)
    assert read(tmp_path, "parquet", clicks={**CLICKS, "user_id": users}).user_ids.tolist() == ["u1", "u2"]


def test_a_missing_file_is_named(tmp_path, kind):
    with pytest.raises(DataFileError, match=rf"nowhere\.{kind} does not exist"):
        read_tabular(TabularConfig(interactions=tmp_path / f"nowhere.{kind}"), kind)


def test_a_file_of_another_format_is_a_file_error(tmp_path):
    (tmp_path / "clicks.parquet").write_text("user_id,item_id\n1,2\n")
    with pytest.raises(DataFileError, match=r"clicks\.parquet cannot be read"):
        read_tabular(TabularConfig(interactions=tmp_path / "clicks.parquet"), "parquet")


def test_a_csv_that_is_not_utf8_is_a_file_error(tmp_path):
    (tmp_path / "clicks.csv").write_bytes(b"user_id,item_id\n\xe9,2\n")
    with pytest.raises(DataFileError, match=r"clicks\.csv cannot be read"):
        read_tabular(TabularConfig(interactions=tmp_path / "clicks.csv"), "csv")


def test_a_missing_column_is_named_with_the_nearest_one(tmp_path, kind):
    with pytest.raises(DataFormatError, match=rf"clicks\.{kind} has no column 'user_idd'. Did you mean 'user_id'"):
        read(tmp_path, kind, user_column="user_idd")
    with pytest.raises(DataFormatError, match=rf"items\.{kind} has no column 'prise'. Did you mean 'price'"):
        read(tmp_path, kind, items=ITEMS, number_columns=("prise",))


def test_ids_that_are_missing_are_counted_and_the_first_row_named(tmp_path, kind):
    with pytest.raises(DataFormatError, match=rf"clicks\.{kind}, column 'item_id': 2 values have no id.* in row 2"):
        read(tmp_path, kind, clicks={"user_id": ["u", "v", "w"], "item_id": ["a", None, None]})
    with pytest.raises(DataFormatError, match=rf"items\.{kind}, column 'item_id': 1 values have no id"):
        read(tmp_path, kind, items={"item_id": ["a", None]})


def test_an_empty_text_is_no_id(tmp_path):
    with pytest.raises(DataFormatError, match="1 values have no id"):
        read(tmp_path, "parquet", clicks={"user_id": ["", "v"], "item_id": ["a", "b"]})


def test_repeated_pairs_are_counted_and_the_first_named(tmp_path, kind):
    clicks = {"user_id": ["u", "v", "u", "u"], "item_id": ["a", "a", "a", "a"]}
    with pytest.raises(DataFormatError, match=rf"clicks\.{kind} has 2 repeated rows.*user 'u', item 'a'"):
        read(tmp_path, kind, clicks=clicks)


def test_repeated_item_rows_are_an_error(tmp_path, kind):
    with pytest.raises(DataFormatError, match=rf"items\.{kind} has 1 repeated rows.*item 'a'"):
        read(tmp_path, kind, items={"item_id": ["b", "a", "a"]})


@pytest.mark.parametrize("wrong", [float("nan"), None, float("inf")])
def test_a_rating_that_is_no_number_is_counted_and_the_first_named(tmp_path, kind, wrong):
    clicks = {**CLICKS, "stars": [1.0, wrong, 2.0]}
    with pytest.raises(DataFormatError, match=rf"clicks\.{kind}, column 'stars': 1 values are no number.* in row 2"):
        read(tmp_path, kind, clicks=clicks, rating_column="stars")


def test_a_time_that_is_missing_is_an_error_dates_included(tmp_path):
    for times in ([1, None, 3], [datetime(2000, 1, 1, tzinfo=UTC), None, None]):
        with pytest.raises(DataFormatError, match=r"column 'at': . values are no number"):
            read(tmp_path, "parquet", clicks={**CLICKS, "at": times}, timestamp_column="at")


def test_a_number_attribute_with_words_is_an_error_that_names_the_row_of_the_file(tmp_path, kind):
    items = {"item_id": ["c", "a", "b"], "price": ["1", " ", "cheap"]}
    with pytest.raises(DataFormatError, match=r"column 'price': 1 values are no number.*'cheap' in row 3"):
        read(tmp_path, kind, items=items, number_columns=("price",))


def test_ids_of_another_type_are_refused(tmp_path):
    clicks = {"user_id": pl.Series([1.0, 2.0], dtype=pl.Float64), "item_id": ["a", "b"]}
    with pytest.raises(DataFormatError, match="Float64"):
        read(tmp_path, "parquet", clicks=clicks)


def test_item_ids_of_two_kinds_have_nothing_in_common(tmp_path):
    with pytest.raises(UnmatchedItemsError, match=r"'1' and '2' there and 'a' and 'b' in clicks\.parquet"):
        read(tmp_path, "parquet", items={"item_id": [1, 2]})


WHOLE = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2**64 - 1) | st.integers(-20, 20)


@settings(max_examples=30)
@given(st.lists(st.tuples(WHOLE, WHOLE), min_size=1, max_size=6, unique=True), st.sets(WHOLE, max_size=3), st.data())
def test_whole_numbers_of_64_bits_are_the_same_ids_in_every_kind_of_file(tmp_path_factory, pairs, others, data):
    """Of clicks and items, with and without a sign; those of a file that is of no use to the other are items too."""
    users, items = (list(column) for column in zip(*pairs, strict=True))
    rows = [*dict.fromkeys(items), *(other for other in others if other not in items)]
    folder, fingerprints = tmp_path_factory.mktemp("ids"), set()
    for kinds in (("csv", "csv"), ("parquet", "parquet"), ("csv", "parquet"), ("parquet", "csv")):
        columns = ({"user_id": users, "item_id": items}, {"item_id": rows, "size": [1.0] * len(rows)})
        paths = []
        for name, kind, values in zip(("clicks", "items"), kinds, columns, strict=True):
            typed = {
                key: ids if key == "size" or kind == "csv" else typed_by(data.draw, ids) for key, ids in values.items()
            }
            text = {key: [str(value) for value in ids] for key, ids in typed.items()} if kind == "csv" else typed
            paths.append(write(folder / f"{name}.{kind}", text))
        given_paths = {"interactions": paths[0], "items": paths[1], "number_columns": ("size",)}
        dataset = read_tabular(TabularConfig(**given_paths), "csv")
        assert sorted(map(int, dataset.item_ids.tolist())) == sorted(rows)
        assert sorted(map(int, dataset.user_ids.tolist())) == sorted(set(users))
        assert dataset.n_unclicked_items == len(set(rows) - set(items))
        assert not np.isnan(dataset.attributes["size"].values).any()
        fingerprints.add(dataset.fingerprint)
    assert len(fingerprints) == 1


def typed_by(draw, ids):
    """Return whole numbers as a column of parquet, in one of the types that hold them."""
    fitting = [
        dtype
        for dtype, (low, high) in {pl.Int64: (-(2**63), 2**63), pl.UInt64: (0, 2**64), pl.Int8: (-128, 128)}.items()
        if all(low <= value < high for value in ids)
    ]
    return pl.Series(ids, dtype=draw(st.sampled_from(fitting))) if fitting else pl.Series(map(str, ids))


def test_a_table_without_rows_is_refused(tmp_path, kind):
    empty = {"user_id": pl.Series([], dtype=pl.String), "item_id": pl.Series([], dtype=pl.String)}
    with pytest.raises(EmptyDatasetError, match=rf"clicks\.{kind} has no interactions"):
        read(tmp_path, kind, clicks=empty)


def test_attribute_columns_need_an_items_table_and_are_named_once(tmp_path):
    with pytest.raises(ConfigError, match="no items table"):
        TabularConfig(interactions=tmp_path, text_columns=("about",))
    with pytest.raises(ConfigError, match="'a' is given as an attribute twice"):
        TabularConfig(interactions=tmp_path, items=tmp_path, text_columns=("a",), label_columns=("a",))
