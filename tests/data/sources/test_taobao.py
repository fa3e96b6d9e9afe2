"""Carts and purchases of Taobao, on files written here and on the real folder, against a reader of its own."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import DataFileError, DataFormatError, EmptyDatasetError, LeakageError
from coldray.data.dataset import rows_of
from coldray.data.sources.registry import SourceConfig, load_dataset, load_predefined
from coldray.data.sources.taobao import read_taobao
from coldray.experiments.folds import prepare_task
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import draw_splits

PAIRS = st.sets(st.tuples(st.integers(0, 4), st.integers(10, 15)), max_size=12)
CART, TRAIN, TEST = {(1, 10), (1, 11), (2, 10)}, {(1, 10), (2, 12)}, {(1, 11), (2, 13)}


def write(folder, cart=CART, train=TRAIN, test=TEST):
    folder.mkdir(parents=True, exist_ok=True)
    for name, pairs, extra in (("cart.csv", cart, "cart"), ("buy.train.txt", train, ""), ("buy.test.txt", test, "")):
        head = "uid\tsid\t3" if extra else "uid\tsid"
        lines = ["\t".join(filter(None, (str(user), str(item), extra))) for user, item in sorted(pairs)]
        (folder / name).write_text("\n".join([head, *lines]) + "\n")
    return folder


def cells(split, matrix):
    data = split.dataset
    pairs = zip(data.user_ids[rows_of(matrix)].tolist(), data.item_ids[matrix.indices].tolist(), strict=True)
    return dict(zip(pairs, matrix.data.tolist(), strict=True))


@given(cart=PAIRS, bought=PAIRS.filter(lambda pairs: len(pairs) > 1), n_test=st.integers(1, 5))
def test_a_pair_is_of_the_part_in_which_it_was_bought(tmp_path_factory, cart, bought, n_test):
    test = set(sorted(bought)[: min(n_test, len(bought) - 1)])
    split = read_taobao(write(tmp_path_factory.mktemp("taobao"), cart, bought - test, test))
    weights = dict.fromkeys(cart, 1.0) | dict.fromkeys(bought, 5.0)
    assert cells(split, split.dataset.events) == weights
    assert cells(split, split.test).keys() == test
    assert cells(split, split.train).keys() == weights.keys() - test
    told = split.dataset.provenance
    assert told["events"]["read"] == {"buy": len(bought), "cart": len(cart)}
    assert told["carts_of_test"] == len(cart & test)
    before = f"{len(cart & test)} of {len(test)} test purchases were in their user's cart"
    assert before in " ".join(split.dataset.notes)


def test_the_published_split_is_that_of_the_source(tmp_path):
    write(tmp_path / "taobao-cart-buy")
    source = SourceConfig(name="taobao-cart-buy", data_dir=tmp_path)
    split = load_predefined(source)
    assert (split.name, split.train.nnz, split.validation.nnz, split.test.nnz) == ("published", 3, 0, 2)
    assert load_dataset(source).fingerprint == split.dataset.fingerprint


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"train": TRAIN | {(1, 11)}}, LeakageError, r"1 purchases are in buy.train.txt and in buy.test.txt"),
        ({"test": set()}, EmptyDatasetError, "test part has no interaction"),
        ({"cart": {("one", 10)}}, DataFormatError, r"cart.csv.*'one'"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, changes, error, told):
    with pytest.raises(error, match=told):
        read_taobao(write(tmp_path, **changes))


def test_a_repeated_event_and_an_absent_file_are_named(tmp_path):
    folder = write(tmp_path)
    (folder / "cart.csv").write_text("uid\tsid\n1\t10\n1\t10\n")
    with pytest.raises(DataFormatError, match=r"cart\.csv has 1 repeated rows"):
        read_taobao(folder)
    (folder / "cart.csv").unlink()
    with pytest.raises(DataFileError, match=r"cart\.csv"):
        read_taobao(folder)


def test_the_real_files_are_read_and_split_as_published(real_data):
    folder = real_data("taobao-cart-buy")
    lines = {
        name: [tuple(map(int, line.split("\t")[:2])) for line in (folder / name).read_text().splitlines()[1:]]
        for name in ("cart.csv", "buy.train.txt", "buy.test.txt")
    }
    cart, train, test = map(set, lines.values())
    split = read_taobao(folder)
    assert (split.dataset.n_users, split.dataset.n_items, split.dataset.interactions.nnz) == (48_749, 39_493, 414_327)
    assert split.dataset.provenance["events"]["read"] == {"buy": len(train | test), "cart": len(cart)}
    assert split.test.nnz == len(test) == 48_749
    assert split.dataset.provenance["carts_of_test"] == len(cart & test) == 8_326
    assert Counter(split.dataset.events.data.tolist()) == {5.0: len(train | test), 1.0: len(cart - train - test)}
    study = {"name": "buys", "model": "ease", "space": {"regularization": 50.0}, "candidates": "all", "cutoffs": [10]}
    drawn = {"splits": {"protocol": "predefined", "n_splits": 1, "users": 500}, "selection": {"metric": "ndcg@10"}}
    config = StudyConfig.model_validate({**study, **drawn})
    (published,) = draw_splits(split.dataset, config, split)
    assert set(np.unique(prepare_task(published.for_tuning().fold, None, users=500).held_out.data)) == {1.0, 5.0}
    assert prepare_task(published.test_fold, None, users=500).held_out.nnz == 500
