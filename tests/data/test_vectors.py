"""Vectors by file as attributes: three formats by a plain loop, what fits nothing is counted, what is wrong refused."""

import pickle
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import coldray
from coldray.core import memory
from coldray.core.errors import (
    CatalogTooLargeError,
    ConfigError,
    DataFileError,
    DataFormatError,
    EmptyDatasetError,
    NumericalError,
    UnmatchedItemsError,
    UnmatchedUsersError,
)
from coldray.data.attributes import VectorAttribute
from coldray.data.guess.attributes import OF_ITEMS, guess_attributes
from coldray.data.guess.columns import Column
from coldray.data.sources.registry import SourceConfig, load_dataset
from coldray.data.sources.sample import sample_dataset
from coldray.data.vector_files import read_vectors
from coldray.data.vectors import with_vectors
from contracts.jobs import options_of

DATASET = sample_dataset(0, 60, 30)
FORMATS = ("pt", "pt of each", "npz", "parquet", "parquet of arrays")


def written(folder, form, ids, vectors):
    path = folder / f"vectors.{form.split()[0]}"
    if form == "pt":
        torch.save({"ids": list(ids), "vectors": torch.from_numpy(vectors)}, path)
    elif form == "pt of each":
        torch.save(dict(zip(ids, torch.from_numpy(vectors), strict=True)), path)
    elif form == "npz":
        np.savez(path, ids=np.array(ids), vectors=vectors)
    else:
        kind = pl.List(pl.Float64) if form == "parquet" else pl.Array(pl.Float64, vectors.shape[1])
        pl.DataFrame({"film": ids, "embedding": pl.Series(vectors.tolist(), dtype=kind)}).write_parquet(path)
    return path


@settings(max_examples=40)
@given(
    st.sampled_from(FORMATS),
    st.one_of(
        st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=6, unique=True),
        st.lists(st.text("abcé9", min_size=1, max_size=4), min_size=1, max_size=6, unique=True),
    ),
    st.data(),
)
def test_what_is_read_is_what_was_written(tmp_path_factory, form, ids, data):
    dtype = data.draw(st.sampled_from([np.float32, np.float64, np.int16]))
    vectors = data.draw(hnp.arrays(dtype, (len(ids), 3), elements=st.integers(-9, 9)))
    found, read = read_vectors(written(tmp_path_factory.mktemp("vectors"), form, ids, vectors), [])
    assert found.to_list() == ids
    assert read.dtype == np.float32
    assert read.tolist() == vectors.tolist()


@settings(max_examples=40)
@given(st.sampled_from(FORMATS), st.booleans(), st.sets(st.integers(0, 29), min_size=1), st.integers(0, 3))
def test_items_get_their_own_vector_and_misses_are_counted(tmp_path_factory, form, numbers, chosen, strays):
    ids = np.arange(100, 130) if numbers else DATASET.item_ids
    data = replace(DATASET, item_ids=ids)
    known = [ids[place].item() for place in sorted(chosen, reverse=True)]
    others = [number if numbers else f"no {number}" for number in range(strays)]
    vectors = np.random.default_rng(len(chosen)).normal(size=(len(known) + strays, 4)).astype(np.float32)
    path = written(tmp_path_factory.mktemp("vectors"), form, [*known, *others], vectors)
    found = with_vectors(data, {"image": path}, {})
    rows = dict(zip(known, vectors.tolist(), strict=False))
    held = [rows.get(one, [np.nan] * 4) for one in ids.tolist()]
    np.testing.assert_array_equal(found.attributes["image"].vectors, np.array(held, np.float32))
    assert found.default_attributes == (*data.default_attributes, "image")
    absent = 30 - len(known)
    told = f"{absent} of 30 items have no vector in 'image', and {strays} of {len(vectors)} vectors are of no item."
    assert any(told in note for note in found.notes) == bool(absent or strays)


def test_users_have_vectors_too_and_those_without_are_counted(tmp_path):
    ids = [*DATASET.user_ids[:20].tolist(), "nobody"]
    path = written(tmp_path, "npz", ids, np.eye(21, dtype=np.float32))
    found = with_vectors(DATASET, {}, {"taste": path})
    assert found.user_attributes["taste"].known.sum() == 20
    assert found.user_attributes["taste"].vectors[3].tolist() == np.eye(21)[3].tolist()
    assert any("40 of 60 users have no row" in note and "1 of 21 rows are left out" in note for note in found.notes)
    with pytest.raises(UnmatchedUsersError, match="no user in common"):
        with_vectors(DATASET, {}, {"taste": written(tmp_path, "npz", ["nobody"], np.eye(1))})


def test_of_clicks_alone_the_file_is_the_catalogue(tmp_path):
    clicks = {"user_id": ["ann", "bob", "bob"], "item_id": [1, 1, 3]}
    path = written(tmp_path, "parquet", [1, 2, 3, 4], np.eye(4))
    data = coldray.load_dataset(clicks, vectors={"image": path})
    assert data.item_ids.tolist() == [1, 2, 3, 4]
    assert data.n_unclicked_items == 2
    assert "image (vector of 4)" in repr(data)


def test_vectors_of_zeros_are_told(tmp_path):
    path = written(tmp_path, "npz", DATASET.item_ids.tolist(), np.diag(np.arange(30.0)))
    (told,) = [note for note in with_vectors(DATASET, {"image": path}, {}).notes if "0 throughout" in note]
    assert "the vectors of 1 items" in told


def test_a_vector_is_part_of_the_fingerprint(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(29, 2)).astype(np.float32)
    ids = DATASET.item_ids[1:].tolist()
    first = with_vectors(DATASET, {"image": written(tmp_path, "pt", ids, vectors)}, {})
    again = with_vectors(DATASET, {"image": written(tmp_path, "npz", ids[::-1], vectors[::-1])}, {})
    other = with_vectors(DATASET, {"image": written(tmp_path, "npz", ids, vectors + np.float32(1e-6))}, {})
    assert first.fingerprint == again.fingerprint
    assert len({DATASET.fingerprint, first.fingerprint, other.fingerprint}) == 3


class Thing:
    """What torch does not load without unpickling."""


@pytest.mark.parametrize(
    ("error", "said", "write"),
    [
        (DataFileError, "does not exist", lambda path: path / "none.npz"),
        (DataFileError, r"ends in '\.pkl'.*\.npz", lambda path: dumped(path / "v.pkl", {})),
        (DataFormatError, "could run code.*torch.save", lambda path: saved(path / "v.pt", {"a": Thing()})),
        (DataFormatError, "could run code", lambda path: dumped(path / "v.pt", {"a": Thing()})),
        (DataFileError, "cannot be read", lambda path: dumped(path / "v.npz", {})),
        (DataFormatError, "holds a Tensor, which says nothing of ids", lambda path: saved(path / "v.pt", torch.eye(2))),
        (DataFormatError, "ids are int and str", lambda path: saved(path / "v.pt", pair([1, "a"], torch.eye(2)))),
        (DataFormatError, "2 ids and 3 vectors", lambda path: saved(path / "v.pt", pair([1, 2], torch.eye(3)))),
        (DataFormatError, "1 repeated rows", lambda path: saved(path / "v.pt", pair([1, 1], torch.eye(2)))),
        (DataFormatError, "dense tensor of numbers", lambda path: saved(path / "v.pt", pair([1], torch.ones(1)))),
        (DataFormatError, "torch.bool", lambda path: saved(path / "v.pt", pair([1], torch.ones(1, 2).bool()))),
        (
            DataFormatError,
            "that of 'a' has 2 numbers, that of 'b' 3",
            lambda path: saved(path / "v.pt", {"a": torch.ones(2), "b": torch.ones(3)}),
        ),
        (NumericalError, "1 of 2 vectors are not finite, .* that of 7", lambda path: npz(path, [3, 7], [1, np.nan])),
        (NumericalError, "within single precision", lambda path: npz(path, [3, 7], [1, 1e39])),
        (EmptyDatasetError, "0 vectors", lambda path: npz(path, np.zeros(0, int), [])),
        (DataFormatError, "no array 'ids'; it has: x", lambda path: arrays(path, x=np.eye(2))),
        (DataFormatError, "ids are float64", lambda path: npz(path, [0.5], [1])),
        (DataFormatError, "vectors are <U1", lambda path: arrays(path, ids=np.arange(1), vectors=np.array([["a"]]))),
        (DataFormatError, "Object", lambda path: arrays(path, ids=np.array([1, "a"], object), vectors=np.eye(2))),
        (DataFormatError, "2 columns of lists", lambda path: table(path, id=[1], a=[[1.0]], b=[[1.0]])),
        (DataFormatError, "that of 5 has 1 numbers, that of 6 2", lambda path: table(path, id=[5, 6], a=[[1], [1, 2]])),
        (NumericalError, "not finite", lambda path: table(path, id=[5], a=[[1.0, None]])),
    ],
)  # fmt: skip
def test_what_is_no_vectors_is_refused(tmp_path, error, said, write):
    with pytest.raises(error, match=said):
        read_vectors(write(tmp_path), [])


def pair(ids, vectors):
    return {"ids": ids, "vectors": vectors}


def saved(path, value):
    torch.save(value, path)
    return path


def dumped(path, value):
    path.write_bytes(pickle.dumps(value))
    return path


def npz(folder, ids, first):
    return arrays(folder, ids=np.array(ids), vectors=np.array(first, np.float64).reshape(-1, 1))


def arrays(folder, **named):
    np.savez(folder / "v.npz", **named)
    return folder / "v.npz"


def table(folder, **columns):
    pl.DataFrame(columns).write_parquet(folder / "v.parquet")
    return folder / "v.parquet"


def test_a_row_without_a_vector_is_told(tmp_path):
    notes = []
    path = table(tmp_path, id=[1, 2], vector=pl.Series([[1.0, 2.0], None]))
    assert read_vectors(path, notes)[0].to_list() == [1]
    assert notes == ["v.parquet: 1 of 2 rows have no vector."]


def test_of_several_columns_the_one_called_like_the_attribute_is_read(tmp_path):
    ids = DATASET.item_ids.tolist()
    path = table(tmp_path, item=ids, image=np.eye(30).tolist(), sound=[[1.0, 2.0]] * 30, genre=[["g"]] * 30)
    found = with_vectors(DATASET, {"image": path, "sound": path}, {})
    assert [found.attributes[name].dim for name in ("image", "sound")] == [30, 2]
    with pytest.raises(DataFormatError, match="2 columns of lists of numbers and 2 others"):
        with_vectors(DATASET, {"picture": path}, {})


def test_files_of_other_items_and_names_that_are_taken_are_refused(tmp_path):
    path = written(tmp_path, "npz", ["x", "y"], np.eye(2))
    with pytest.raises(UnmatchedItemsError, match="no item in common"):
        with_vectors(DATASET, {"image": path}, {})
    with pytest.raises(DataFormatError, match="called 'genres'"):
        with_vectors(DATASET, {"genres": path}, {})
    with pytest.raises(ConfigError, match="have no name"):
        with_vectors(DATASET, {" ": path}, {})


def test_what_does_not_fit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_available_bytes", lambda: 50)
    for form in FORMATS:
        with pytest.raises(CatalogTooLargeError, match=r"Reading the vectors of vectors\."):
            read_vectors(written(tmp_path, form, ["x", "y"], np.eye(2)), [])


def test_a_column_of_vectors_is_not_guessed_to_be_labels():
    column = Column.of("image", pl.Series([[0.1, 0.2], [0.3, 0.4]]))
    (guess,) = guess_attributes([column], pl.Series([1, 2]), 0.0, OF_ITEMS)
    assert guess.use is None
    assert "--item-vectors image=FILE" in guess.reason


def test_a_source_and_the_command_line_name_files(tmp_path):
    path = written(tmp_path, "npz", sample_dataset(0).item_ids.tolist(), np.eye(500, dtype=np.float32))
    named = SourceConfig(name="sample", item_vectors={"image": "vectors.npz"}).below(tmp_path)
    data = load_dataset(named)
    assert isinstance(data.attributes["image"], VectorAttribute)
    source = options_of("tune", "popularity", "--item-vectors", f"image={path}", "--user-vectors", "a=b.pt").source
    assert (source.item_vectors, str(source.user_vectors["a"])) == ({"image": path}, "b.pt")
    with pytest.raises(ConfigError, match="--item-vectors takes NAME=FILE"):
        _ = options_of("tune", "popularity", "--item-vectors", "b.pt").source
    with pytest.raises(ConfigError, match="'a' has two files"):
        _ = options_of("tune", "popularity", "--user-vectors", "a=b", "--user-vectors", "a=c").source
