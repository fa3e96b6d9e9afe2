"""Texts of items from a table of their own, by a plain loop, and what is wrong with such tables."""

import csv
import logging
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from coldray.core.errors import DataFileError, DataFormatError, UnmatchedItemsError
from coldray.data.sources.registry import SourceConfig, load_dataset, load_predefined
from coldray.data.sources.sample import sample_dataset
from coldray.data.texts import MOST_TEXTS, with_texts
from coldray.features.builder import FeatureConfig, choose_methods
from contracts.jobs import options_of

DATASET = sample_dataset(0, 60, 30)
IDS = DATASET.item_ids.tolist()
TEXTS = st.sampled_from(["", " ", "a", "b c", None])
ROWS = st.lists(st.tuples(st.sampled_from([*IDS[:6], "no item"]), TEXTS))


def written(path, rows, header=("item_id", "review")):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def parquet_of(folders, rows):
    path = folders.mktemp("texts") / "reviews.parquet"
    pl.DataFrame(rows, schema={"item_id": pl.String, "review": pl.String}, orient="row").write_parquet(path)
    return path


@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_texts_of_no_item_alone_are_refused(tmp_path_factory, texts):
    path = parquet_of(tmp_path_factory, [("no item", text) for text in texts])
    with pytest.raises(UnmatchedItemsError, match="have no item in common"):
        with_texts(DATASET, path)


@given(rows=ROWS)
def test_texts_are_those_of_a_loop_over_the_rows(tmp_path_factory, rows):
    assume(not rows or any(id_ != "no item" for id_, _ in rows))
    path = parquet_of(tmp_path_factory, rows)
    expected = {id_: [] for id_ in IDS}
    for id_, text in rows:
        if id_ in expected and (text or "").strip():
            expected[id_].append(text.strip())
    found = with_texts(DATASET, path)
    names = [name for name in found.attributes if name not in DATASET.attributes]
    longest = max(map(len, expected.values()))
    most = max(1, min(longest, MOST_TEXTS))
    assert names == (["review"] if most == 1 else [f"review_{place + 1}" for place in range(most)])
    for item, id_ in enumerate(IDS):
        texts = [found.attributes[name].texts[item] for name in names]
        assert texts == (expected[id_] + [""] * most)[:most]
    counts = {name: found.provenance[name] for name in ("texts_of_no_item", "items_without_texts")}
    assert counts == {
        "texts_of_no_item": sum(id_ == "no item" for id_, _ in rows),
        "items_without_texts": sum(not texts for texts in expected.values()),
    }
    assert found.provenance["texts_beyond_those_kept"] == sum(max(0, len(t) - MOST_TEXTS) for t in expected.values())
    assert found.default_attributes == DATASET.default_attributes


def test_ids_that_are_numbers_are_read_from_text_and_what_is_missing_is_said(tmp_path, caplog):
    numbered = sample_dataset(0, 60, 30)
    object.__setattr__(numbered, "item_ids", np.arange(100, 130))
    path = written(tmp_path / "texts.csv", [("101", "One."), ("x", "No item."), ("999", "Nor this.")])
    with caplog.at_level(logging.WARNING):
        found = with_texts(numbered, path)
    assert found.attributes["review"].texts[:3] == ("", "One.", "")
    assert "texts.csv: 29 of 30 items have no text, 2 rows are of no item" in caplog.text
    assert any("2 rows are of no item" in note for note in found.notes)


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([("a", "b")], ("movie", "review"), "no column 'item_id'"),
        ([("a",)], ("item_id",), "no column besides 'item_id'"),
        ([("", "text")], ("item_id", "review"), "have no id"),
        ([(IDS[0], "text")], ("item_id", "genres"), "a column for genres, and so has 'sample' itself"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, rows, header, message):
    with pytest.raises(DataFormatError, match=message):
        with_texts(DATASET, written(tmp_path / "texts.csv", rows, header))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataFileError, match=r"nowhere\.csv does not exist"):
        with_texts(DATASET, tmp_path / "nowhere.csv")


def test_texts_are_named_on_the_command_line_and_encoded_by_a_pattern(tmp_path):
    path = written(tmp_path / "t.csv", [("item-0001", "Good."), ("item-0001", "Long."), ("item-0002", "Short.")])
    source = options_of("tune", "marec", "--texts", path).source
    assert source == SourceConfig(name="sample", texts=path)
    dataset = load_dataset(source)
    config = FeatureConfig(attributes="all", text={"review_*": "embedding"})
    methods = choose_methods(dataset, config)
    assert {name for name, method in methods.items() if method == "embedding"} == {"review_1", "review_2"}


@given(st.data())
def test_the_table_is_the_catalogue_of_a_dataset_that_has_none(tmp_path_factory, data):
    """Its items that nobody clicked are items; all else is what it was, in whatever order the ids come."""
    numbered = data.draw(st.booleans())
    ids = np.arange(5, 35) if numbered else DATASET.item_ids
    plain = replace(DATASET, item_ids=ids, attributes={}, default_attributes=(), synthetic=False)
    known = [str(id_) for id_ in ids.tolist()]
    others = st.sampled_from(["a", "9" * 19, "-3", "34a"] if not numbered else ["3", "9" * 18, "-3", "x"])
    rows = [known[0], *data.draw(st.lists(st.sampled_from(known[1:]) | others, unique=True))]
    path = written(
        tmp_path_factory.mktemp("texts") / "texts.csv", [(id_, f"about {id_}") for id_ in rows], ("item_id", "about")
    )
    found = with_texts(plain, path)
    assert set(map(str, found.item_ids.tolist())) == {*known, *rows}
    assert found.item_ids.dtype.kind == ("U" if not numbered or "x" in rows else "i")
    texts = dict(zip(map(str, found.item_ids.tolist()), found.attributes["about"].texts, strict=True))
    assert texts == {id_: f"about {id_}" if id_ in rows else "" for id_ in {*known, *rows}}
    places = [list(map(str, found.item_ids.tolist())).index(id_) for id_ in known]
    assert (found.interactions[:, places] != plain.interactions).nnz == 0
    assert found.interactions.nnz == plain.interactions.nnz
    assert found.provenance["texts_of_no_item"] == 0
    assert found.provenance["texts_match"]["rows_without_clicks"] == len({*rows} - {*known})


def test_a_published_split_keeps_its_parts_when_texts_bring_items(tmp_path):
    columns = {
        "user_id": ["u", "v", "w"], "parent_asin": ["b", "d", "b"], "rating": [5.0, 4.0, 3.0], "timestamp": [1, 2, 3]
    }  # fmt: skip
    for number, part in enumerate(("train", "valid", "test")):
        rows = {name: values[number : number + 1] for name, values in columns.items()}
        pl.DataFrame(rows).write_parquet(tmp_path / f"Toys.5core.{part}.parquet")
    path = written(tmp_path / "texts.csv", [(id_, f"toy {id_}") for id_ in "abcde"], ("item_id", "title"))
    source = SourceConfig(name="amazon", data_dir=tmp_path, texts=path)
    split = load_predefined(source)
    assert split.dataset.item_ids.tolist() == list("abcde")
    assert split.dataset.attributes["title"].texts == tuple(f"toy {id_}" for id_ in "abcde")
    assert split.train.toarray().tolist()[0] == [0, 1, 0, 0, 0]
    assert split.validation.toarray().tolist()[1] == [0, 0, 0, 1, 0]
    assert split.test.toarray().tolist()[2] == [0, 1, 0, 0, 0]
    assert load_dataset(source).fingerprint == split.dataset.fingerprint
    measured = split.dataset.of_clicked_items()
    assert measured.item_ids.tolist() == ["b", "d"]
    assert replace(split, dataset=measured).test.toarray().tolist()[2] == [1, 0]
