"""Items that nobody has clicked, in the splits of a study: out of the measuring, or candidates, as the study says."""

from dataclasses import replace

import numpy as np
import pytest

from coldray.data.dataset import keep_entries
from coldray.data.sources.sample import sample_dataset
from coldray.data.splits.assignment import drawn_parts
from coldray.data.splits.published import PredefinedSplit
from coldray.experiments.data_check import check_split
from coldray.experiments.folds import prepare_task
from coldray.experiments.prepared import describe_dataset, describe_protocol
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import check_model, draw_splits

INTERACTIONS = ("holdout", "k-fold", "user-holdout")


@pytest.fixture(scope="module")
def dataset():
    """Return a sample in which nobody has clicked every fourth item."""
    sample = sample_dataset(1, 80, 60)
    kept = keep_entries(sample.interactions, sample.interactions.indices % 4 != 0)
    return replace(sample, interactions=kept)


def study(protocol="notebook", candidates="cold", model="marec"):
    n_splits = 3 if protocol == "k-fold" else 1
    space = {"regularization": 10.0} if model == "ease" else {"lambda_1": 1.0}
    given = {"splits": {"protocol": protocol, "n_splits": n_splits}, "candidates": candidates, "space": space}
    return StudyConfig.model_validate({"name": "x", "model": model, **given})


def folds(split):
    return split.for_tuning().fold, split.test_fold


@pytest.mark.parametrize("protocol", ["notebook", "balanced"])
def test_with_cold_candidates_folds_are_as_if_they_were_not_there(dataset, protocol):
    """Not even vocabularies, nor how rare a word is, can differ: figures are those of the items with clicks."""
    whole, alone = (draw_splits(one, study(protocol)) for one in (dataset, dataset.of_clicked_items()))
    for split, expected in zip(whole, alone, strict=True):
        for fold, other in zip(folds(split), folds(expected), strict=True):
            assert fold.dataset.fingerprint == other.dataset.fingerprint
            assert (fold.held_out != other.held_out).nnz == (fold.train != other.train).nnz == 0


@pytest.mark.parametrize("protocol", ["notebook", "balanced", *INTERACTIONS])
def test_where_every_item_is_a_candidate_all_folds_know_them(dataset, protocol):
    unclicked = set(dataset.item_ids.tolist()) - set(dataset.item_ids[dataset.clicked_items].tolist())
    assert len(unclicked) >= 15
    for split in draw_splits(dataset, study(protocol, "all")):
        for fold in folds(split):
            found = fold.dataset.item_ids.tolist()
            assert unclicked <= set(found)
            places = [found.index(item) for item in unclicked]
            assert (fold.train[:, places].nnz, fold.held_out[:, places].nnz) == (0, 0)
            assert not set(places) & set(fold.cold_items.tolist())
            task = prepare_task(fold, study().encoded_features)
            assert set(places) <= set(task.train.cold_items.tolist())


def test_the_parts_are_the_same_whoever_competes(dataset):
    (cold,), (every,) = (draw_splits(dataset, study(candidates=candidates)) for candidates in ("cold", "all"))
    for part in ("train_items", "validation_items", "test_items"):
        names = [split.dataset.item_ids[getattr(split, part)].tolist() for split in (cold, every)]
        assert names[0] == names[1]


def test_a_published_split_keeps_its_parts(dataset):
    parts = np.arange(dataset.interactions.nnz).astype(np.uint8) % 3
    published = PredefinedSplit(dataset, parts, "p")
    (split,) = draw_splits(dataset, study("predefined", "all"), published)
    assert split.dataset.n_items == dataset.n_items
    assert (split.test_fold.held_out != published.test).nnz == 0


def test_the_protocol_says_what_becomes_of_them(dataset):
    for candidates, words in (("cold", "left out of all folds"), ("all", "in no part, known to all folds")):
        config = study(candidates=candidates)
        told = describe_protocol(config, dataset, draw_splits(dataset, config))
        assert words in told["unclicked items"]
        assert told["unclicked items"].startswith(f"{dataset.n_unclicked_items} of the catalogue: ")
    alone = dataset.of_clicked_items()
    assert "unclicked items" not in describe_protocol(study(), alone, draw_splits(alone, study()))
    assert describe_dataset(dataset)["n_unclicked_items"] == dataset.n_unclicked_items


def test_memory_is_checked_for_all_items(dataset, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "coldray.models.linear.ease.EASE.check_size", lambda self, users, items: seen.append((users, items))
    )
    check_model(study("holdout", "all", "ease"), dataset)
    assert seen == [(dataset.n_users, dataset.n_items)]


def test_a_table_that_hardly_fits_is_a_warning_of_the_check(dataset):
    text = "items.csv: 9 of 10 clicked items have no row."
    provenance = {"catalogue": {"suspicious": True, "text": text}, "notes": [text, "another note"]}
    found = check_split(drawn_parts(replace(dataset, provenance=provenance)), n_factors=3).findings
    assert [finding.level for finding in found if finding.text == text] == ["warning"]
    assert [finding.level for finding in found if finding.text == "another note"] == ["note"]
    fine = {"catalogue": {"suspicious": False, "text": text}, "notes": [text]}
    found = check_split(drawn_parts(replace(dataset, provenance=fine)), n_factors=3).findings
    assert [finding.level for finding in found if finding.text == text] == ["note"]
