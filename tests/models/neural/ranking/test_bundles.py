"""Rankers in a bundle: the moment of a question decides its list, wherever the bundle lies, for new items too."""

import numpy as np
import pytest

import coldray
from coldray.bundle.io import load_bundle, save_bundle

PHONE, DESK = {"device": "phone", "time": "2001-12-05T10:00"}, {"device": ["desk"]}
QUICK = {"epochs": 20, "embedding_dim": 8, "batch_size": 64, "learning_rate": 0.02, "validation_share": 0.0}


@pytest.fixture(scope="module")
def data():
    """Return people without tastes, who click items of even numbers by phone, and the others at a desk."""
    generator = np.random.default_rng(0)
    users, items = np.nonzero(generator.random((50, 24)) < 0.5)
    clicks = {"user_id": users.tolist(), "item_id": items.tolist()}
    clicks["device"] = np.where(items % 2 == 0, "phone", "desk").tolist()
    clicks["timestamp"] = (10**9 + generator.integers(0, 10**7, len(users))).tolist()
    films = {"item_id": list(range(24)), "kind": [("phone", "desk")[item % 2] for item in range(24)]}
    return coldray.load_dataset(clicks, films, labels=["kind"], timestamp="timestamp", context_labels=["device"])


@pytest.mark.parametrize("model", ["fm", "deepfm"])
def test_the_moment_decides_the_list_before_and_after_storage(data, model, tmp_path):
    bundle = coldray.fit(model, data, moment_features={"attributes": ["device", "item_popularity"]}, **QUICK)
    save_bundle(bundle, tmp_path / "bundle")
    asked = {"histories": [[3], [3], []], "contexts": [PHONE, DESK, PHONE], "k": 8}
    frame, again = bundle.recommend(**asked), load_bundle(tmp_path / "bundle").recommend(**asked)
    assert frame.equals(again)
    parity = frame.with_columns(odd=frame["item"] % 2).group_by("user", maintain_order=True).agg("odd")["odd"].to_list()
    assert [set(one) for one in parity] == [{0}, {1}, {0}]
    wider = bundle.add_items({98: {"kind": ["phone"]}, 99: {"kind": ["desk"]}})
    new = wider.recommend(histories=[[3], [3]], contexts=[PHONE, DESK], k=1, candidates="cold")
    assert new["item"].to_list() == [98, 99]
