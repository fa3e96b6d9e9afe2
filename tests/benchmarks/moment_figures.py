"""What each word of moments brings to a ranker on real data."""

from __future__ import annotations

import statistics
import sys

from figures import data_folder, figure

import coldray
from coldray.data.dataset import Dataset
from coldray.data.splits.items import Split
from coldray.features.builder import FeatureConfig
from coldray.features.moments import names_of_moments

METRIC = "ndcg@10"
SEEDS = (0, 1)
SMALL = {"embedding_dim": 16, "history": 20, "epochs": 8, "validation_share": 0.0}
"""Of `fm`, beside its defaults: one fit takes half a minute, and there are two of each word."""


def _reached(data: Dataset, split: Split, words: tuple[str, ...], part: str) -> float:
    """Return the mean over seeds; for the test it is fitted on all that is known before."""
    found = []
    for seed in SEEDS:
        bundle = coldray.fit("fm", split, moment_features={"attributes": words}, seed=seed, **SMALL)
        found.append(coldray.evaluate(bundle, split, [METRIC], part=part)[METRIC])
    return statistics.fmean(found)


@figure("moment_words_over_none", unit="×", bar=1.0, better="higher")
def moment_words() -> float:
    """The word that does best on validation over no word, in test ndcg@10 of `fm` on the last clicks of ml-100k."""
    data = coldray.load_dataset("ml-100k", data_dir=data_folder("ml-100k"))
    split = coldray.split(data, "per-user-temporal", seed=42)
    every = names_of_moments(FeatureConfig(attributes="all"), data)
    chosen: dict[str, tuple[str, ...]] = {"none": (), **{word: (word,) for word in every}, "all": every}
    validation = {}
    for name, words in chosen.items():
        validation[name] = _reached(data, split, words, "validation")
        print(f"{name}: validation {validation[name]:.4f}", file=sys.stderr, flush=True)
    best = max(every, key=validation.__getitem__)
    test = {name: _reached(data, split, chosen[name], "test") for name in ("none", best)}
    print(f"test: none {test['none']:.4f}, {best} {test[best]:.4f}", file=sys.stderr)
    return test[best] / test["none"]
