"""Metadata of Amazon's products in the forms of three generations, generated and read again."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import DataFileError, DataFormatError, UnmatchedItemsError
from coldray.data.sources.amazon.layout import read_amazon
from coldray.data.sources.amazon.metadata import ATTRIBUTES, metadata_path, read_metadata
from data.sources.amazon.test_layout import write

WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="&"), min_size=1, max_size=8)
PRODUCTS = st.lists(
    st.fixed_dictionaries(
        {
            "item": st.from_regex(r"B0[0-9A-Z]{4}", fullmatch=True),
            "title": WORDS,
            "brand": WORDS,
            "price": st.none() | st.integers(0, 10**6).map(lambda cents: cents / 100),
            "description": st.lists(WORDS, max_size=3),
            "features": st.lists(WORDS, max_size=2),
            "categories": st.lists(WORDS, max_size=4),
        }
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda product: product["item"],
)


def line_of(product, year):
    """Return the line of a product as the files of that year have it."""
    common = {"title": product["title"], "average_rating": 4.7, "rating_number": 1000, "salesRank": {"Toys": 1}}
    price = product["price"]
    if year == 2023:
        own = {"parent_asin": product["item"], "store": product["brand"], "details": {"Weight": "1 g"}}
        lists = {name: product[name] for name in ("description", "features", "categories")}
        return json.dumps({**common, **own, **lists, "price": price})
    own = {"asin": product["item"], "brand": product["brand"]}
    if year == 2018:
        told = "" if price is None else f"${price:,.2f}"
        lists = {"category": product["categories"], "feature": product["features"]}
        return json.dumps({**common, **own, **lists, "description": product["description"], "price": told})
    text = " ".join([*product["description"], *product["features"]])
    lists = {"categories": [[one] for one in product["categories"]], "description": text}
    return repr({**common, **own, **lists, **({} if price is None else {"price": price})})


@given(PRODUCTS, st.sampled_from([2014, 2018, 2023]), st.booleans())
@settings(max_examples=40)
def test_what_is_known_of_products_is_read_from_files_of_each_year(tmp_path_factory, products, year, packed):
    path = tmp_path_factory.mktemp("meta") / "meta_Toys.jsonl"
    content = "".join(f"{line_of(product, year)}\n" for product in products).encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    wanted = products[::2]
    found = read_metadata(path, {product["item"] for product in wanted})
    assert found.ids.to_list() == [product["item"] for product in products]
    assert found.notes == ()
    expected = [
        {
            "item": product["item"],
            "title": product["title"],
            "brand": product["brand"],
            "price": product["price"],
            "description": " ".join([*product["description"], *product["features"]]),
            "categories": list(dict.fromkeys(product["categories"])),
        }
        for product in wanted
    ]
    assert found.table.to_dicts() == expected


def written(folder, *lines, name="meta_All_Beauty.jsonl"):
    write(folder)
    (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return folder


def test_products_of_a_category_have_attributes_and_others_are_counted(tmp_path):
    known = {"title": "Soap &amp; Co", "categories": ["Skin", "Soap"], "price": "$1,299.00", "details": {"Brand": "Ø"}}
    lines = [
        json.dumps({"parent_asin": "0007", **known}),
        "",
        json.dumps({"parent_asin": "B02", "store": "Shop", "price": "$3.00 - $5.00", "description": ["a", "b"]}),
        json.dumps({"parent_asin": "B02", "title": "again"}),
        json.dumps({"parent_asin": "B99", "title": "of nobody"}),
    ]
    dataset = read_amazon(written(tmp_path, *lines), "All_Beauty").dataset
    assert dataset.default_attributes == tuple(dataset.attributes) == ATTRIBUTES
    assert dataset.attributes["title"].texts == ("Soap & Co", "", "")
    assert dataset.attributes["description"].texts == ("", "", "a b")
    np.testing.assert_array_equal(dataset.attributes["price"].values, [1299, np.nan, np.nan])
    assert dataset.attributes["brand"].labels.tolist() == ["Shop", "Ø"]
    assert dataset.attributes["categories"].matrix.toarray().tolist() == [[1, 1], [0, 0], [0, 0]]
    told = " ".join(dataset.notes)
    assert "1 of 3 clicked items, with 2 of 5 clicks, have no row, and 1 of 3 rows are of items that nobody" in told
    assert "1 lines are of products that an earlier line is of" in told
    assert "the price of 1 products is a range or a text, and unknown" in told
    assert dataset.provenance["metadata_file"] == "meta_All_Beauty.jsonl"
    assert dataset.fingerprint != read_amazon(write(tmp_path / "bare"), "All_Beauty").dataset.fingerprint


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[1, 2]", "line 1 is no object"),
        ("{'asin': open('x')}", "line 1 is no object"),
        ('{"asin": ', "line 1 is no object"),
        ('{"title": "x"}', "line 1: no parent_asin and no asin"),
        ('{"asin": " "}', "line 1: no parent_asin and no asin"),
    ],
)
def test_a_line_that_is_no_product_is_refused(tmp_path, line, words):
    with pytest.raises(DataFormatError, match=words):
        read_amazon(written(tmp_path, line), "All_Beauty")


def test_metadata_of_other_products_or_twice_are_refused(tmp_path):
    with pytest.raises(UnmatchedItemsError, match="have no item in common"):
        read_amazon(written(tmp_path, '{"asin": "b01"}'), "All_Beauty")
    (tmp_path / "meta_All_Beauty.json.gz").write_bytes(b"")
    with pytest.raises(DataFileError, match="Leave one of them there"):
        metadata_path(tmp_path, "All_Beauty")


@pytest.mark.parametrize(
    ("price", "value", "understood"),
    [
        (3, 3.0, True),
        (-1, None, False),
        (float("nan"), None, True),
        (float("inf"), None, False),
        (True, None, False),
        ("$.99", 0.99, True),
        ("12", 12.0, True),
        ("None", None, True),
        ("from 3.00", None, False),
        (["$3"], None, False),
    ],
)
def test_a_price_is_a_number_or_unknown(tmp_path, price, value, understood):
    path = tmp_path / "meta_X.jsonl"
    path.write_text(json.dumps({"asin": "a", "price": price}))
    found = read_metadata(path, {"a"})
    assert found.table["price"].to_list() == [value]
    assert bool(found.notes) != understood
