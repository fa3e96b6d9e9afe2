"""Results of an ablation on disk: complete or absent, and only ever found under their own key."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import OutputError
from coldray.experiments.ablation.store import AblationStore

KEY = {"fold": "seed 42 / split 0", "stage": "+CA", "tried": [{"ca_weight": 0.5, "delta": {"genres": 5.0}}]}
VALUES = {"validated": [[0.25, ""], [float("nan"), "NumericalError: é [x]"]], "MARec": {"metrics": {"ndcg@10": 1 / 3}}}


def arrays():
    rng = np.random.default_rng(0)
    return {
        "users": np.arange(5, dtype=np.int32),
        "per_user/+CA/ndcg@10": rng.random(5, dtype=np.float32),
        "features/points": rng.random((4, 2)),
        "cold": np.array([True, False]),
        "curve/Gaussian NLL": np.array([1.5, np.nan, -np.inf]),
        "empty": np.empty((0, 3), np.float32),
    }


@pytest.fixture
def store(tmp_path):
    return AblationStore(tmp_path / "state")


def same(stored, expected):
    assert list(stored.arrays) == list(expected)
    for name, values in expected.items():
        assert stored.arrays[name].dtype == values.dtype
        np.testing.assert_array_equal(stored.arrays[name], values)


def test_what_was_kept_is_found_by_whoever_looks_in_the_folder(store):
    store.put(KEY, VALUES, arrays())
    other = AblationStore(store.folder)
    stored = other.get(json.loads(json.dumps(KEY)))
    assert json.dumps(stored.values) == json.dumps(VALUES)
    same(stored, arrays())
    assert (store.found, other.found) == (0, 1)


def test_the_order_of_a_key_and_its_tuples_make_no_difference(store):
    store.put({"a": (1, 2), "b": {"x": 1, "y": 2}}, {"value": 3}, {})
    assert store.get({"b": {"y": 2, "x": 1}, "a": [1, 2]}).values == {"value": 3}


@pytest.mark.parametrize(
    "change", [{"fold": "seed 42 / split 1"}, {"stage": "+CA+UA"}, {"tried": [{"ca_weight": 0.25}]}, {"more": None}]
)
def test_another_key_finds_nothing(store, change):
    store.put(KEY, VALUES, arrays())
    assert store.get({**KEY, **change}) is None
    assert store.found == 0


def test_a_file_under_the_name_of_another_key_is_not_taken_for_it(store):
    store.put(KEY, VALUES, arrays())
    (file,) = store.folder.iterdir()
    other = {**KEY, "stage": "+CA+UA"}
    file.rename(store._path(other))
    assert store.get(other) is None


def test_what_is_kept_again_replaces_what_was_there(store):
    store.put(KEY, {"value": 1}, arrays())
    store.put(KEY, {"value": 2}, {})
    assert store.get(KEY).values == {"value": 2}
    assert len(list(store.folder.iterdir())) == 1


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """Return the bytes of a file."""
    store = AblationStore(tmp_path_factory.mktemp("content"))
    store.put(KEY, VALUES, arrays())
    (file,) = store.folder.iterdir()
    return file.read_bytes()


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Return a function that puts bytes in place of a stored file, and returns what is then found."""
    store = AblationStore(tmp_path_factory.mktemp("damaged"))

    def get(written):
        store._path(KEY).write_bytes(written)
        return store.get(KEY), store

    return get


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_ends_early_is_not_there(damaged, content, share):
    found, store = damaged(content[: int(share * len(content))])
    assert found is None
    store.put(KEY, VALUES, arrays())
    same(store.get(KEY), arrays())


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_byte_that_changed_is_harmless_or_the_file_is_not_there(damaged, content, place, flip):
    written = bytearray(content)
    written[int(place * len(content))] ^= flip
    found, _ = damaged(bytes(written))
    if found is not None:
        assert json.dumps(found.values) == json.dumps(VALUES)
        same(found, arrays())


class Planted:
    def __reduce__(self):
        return (pytest.fail, ("a stored file was unpickled",))


def test_other_files_in_its_place_are_not_there(damaged, tmp_path):
    np.save(tmp_path / "plain.npy", np.arange(3))
    np.savez(tmp_path / "other.npz", values=np.arange(3))
    np.savez(tmp_path / "text.npz", json=np.array("{"))
    np.savez(tmp_path / "list.npz", json=np.array("[1]"))
    for file in tmp_path.iterdir():
        assert damaged(file.read_bytes())[0] is None, file.name
    assert damaged(b"")[0] is None


def test_nothing_is_unpickled_and_nothing_pickled(damaged, store, tmp_path):
    assert damaged(pickle.dumps(Planted()))[0] is None
    np.savez(tmp_path / "planted.npz", json=np.array([Planted()], dtype=object))
    assert damaged((tmp_path / "planted.npz").read_bytes())[0] is None
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        store.put(KEY, {}, {"objects": np.array([object()], dtype=object)})
    assert list(store.folder.iterdir()) == []


@pytest.mark.parametrize("before", [True, False])
def test_an_interrupted_write_leaves_what_was_there(store, monkeypatch, before):
    if before:
        store.put(KEY, {"value": 1}, {})

    def interrupted(file, **_):
        file.write(b"PK half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.put(KEY, {"value": 2}, {})
    assert len(list(store.folder.iterdir())) == before
    stored = store.get(KEY)
    assert (stored and stored.values) == ({"value": 1} if before else None)


def test_values_that_json_would_change_are_refused(store):
    with pytest.raises(TypeError):
        store.put(KEY, {"value": np.float32(0.5)}, {})
    assert not store.folder.exists()


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = AblationStore(None)
    store.put(KEY, VALUES, arrays())
    assert store.get(KEY) is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="Cannot write"):
        AblationStore(tmp_path / "file" / "state").put(KEY, {}, {})
