"""Ids of 19 and 20 digits, whole in bundles, requests, addresses, histories and lists of candidates."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from mlflow.types import DataType

from coldray.bundle.fitting import fit_bundle
from coldray.bundle.io import load_bundle, save_bundle
from coldray.cli.jobs.recommend_all import _as_known, _candidates
from coldray.cli.jobs.tune import _id_type
from coldray.data.sources.sample import sample_dataset
from coldray.data.tables.histories import find_histories, partition_file, write_partitions
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.linear.ease import EASE
from coldray.serving.api.schemas import Feedback, NewItem, RecommendRequest
from coldray.serving.batch.lists import BatchLists, Counts
from coldray.serving.engine.engine import Engine

N_ITEMS = 40
FIRST = {"signed": 2**63 - N_ITEMS, "unsigned": 2**64 - N_ITEMS, "both": 2**63 - N_ITEMS // 2}
"""The first of whole numbers that follow each other; of ``both`` half are beyond 64 bits with a sign."""


@pytest.fixture(scope="module", params=list(FIRST))
def catalogue(request, tmp_path_factory):
    """Return the numbers of the items, as they are in tables, and a bundle that has been stored."""
    numbers = [FIRST[request.param] + place for place in range(N_ITEMS)]
    ids = np.array(numbers if request.param == "signed" else [str(number) for number in numbers])
    dataset = replace(sample_dataset(0, 80, N_ITEMS), item_ids=ids)
    bundle = fit_bundle(EASE(), dataset, FeatureEncoder(FeatureConfig()), {})
    return numbers, load_bundle(save_bundle(bundle, tmp_path_factory.mktemp("long") / "bundle"))


def told(catalogue, number):
    """Return an item as the service has it."""
    return number if catalogue[1].item_ids.dtype.kind == "i" else str(number)


def test_a_request_names_items_as_numbers_whatever_their_size(catalogue):
    numbers, bundle = catalogue
    body = {"history": [numbers[3], {"item_id": numbers[5], "rating": 4.0}], "exclude": [numbers[7]], "k": N_ITEMS}
    request = RecommendRequest.model_validate_json(json.dumps(body))
    engine = Engine(bundle)
    (answer,) = engine.answer([request.query()])
    listed = [place.item for place in answer.places]
    left_out = {told(catalogue, numbers[place]) for place in (3, 5, 7)}
    assert set(listed) == {told(catalogue, number) for number in numbers} - left_out
    (named,) = engine.answer([replace(request.query(), candidates=tuple(listed[:3]))])
    assert [place.item for place in named.places] == listed[:3]
    assert json.loads("{" + engine.facts(listed[0]) + "}")["item_id"] == listed[0]


def test_items_and_events_are_named_so_too(catalogue):
    number = catalogue[0][-1]
    known = NewItem.model_validate_json(json.dumps({"item_id": number, "attributes": {}})).item_id
    event = Feedback.model_validate_json(json.dumps({"event_id": "e", "user_id": number, "item_id": number}))
    assert known == event.item_id == event.user_id == (number if number < 2**63 else str(number))


@pytest.mark.parametrize("wrong", [2**64, -(2**63) - 1, 1.0, True, None])
def test_no_other_number_is_an_id(wrong):
    with pytest.raises(ValueError, match="item_id"):
        NewItem.model_validate({"item_id": wrong, "attributes": {}})


def test_an_address_names_an_item_by_its_digits_alone(catalogue):
    numbers, bundle = catalogue
    engine = Engine(bundle)
    assert engine.knows_item(engine.typed(str(numbers[4])))
    for other in (f"0{numbers[4]}", f" {numbers[4]}", f"+{numbers[4]}", f"{numbers[4]}.0"):
        assert not engine.knows_item(engine.typed(other))


def test_the_signature_has_the_type_of_the_ids(catalogue):
    numbers, bundle = catalogue
    assert _id_type(bundle.item_ids) == (DataType.long if numbers[-1] < 2**63 else DataType.string)


def test_histories_of_numbers_are_those_of_the_service(catalogue, tmp_path):
    """A file of some users may have none of the numbers that make text of all."""
    numbers, bundle = catalogue
    for name, items in (("low", numbers[:3]), ("all", [numbers[0], numbers[-1], numbers[9]])):
        folder = tmp_path / name
        folder.mkdir()
        rows = {"user_id": ["u"] * 3, "item_id": pl.Series(items, dtype=pl.UInt64)}
        pl.DataFrame(rows).write_parquet(folder / "0.parquet")
        histories = _as_known(find_histories(folder), bundle.item_ids)
        lists, counts = BatchLists.of(bundle, k=5), Counts()
        lists.check_ids(histories.schema)
        write_partitions(histories, tmp_path / f"{name}-parts", 1, lambda rows: None)
        (found,) = lists.of_histories(pl.read_parquet(partition_file(tmp_path / f"{name}-parts", 0)), counts)
        history = {told(catalogue, item): None for item in items}
        (answer,) = Engine(bundle).answer([replace(RecommendRequest(k=5).query(), history=history)])
        assert found["items"].to_list() == [[place.item for place in answer.places]]
        assert counts.unknown_items == 0


def test_candidates_in_files_of_any_kind_are_the_same(catalogue, tmp_path):
    numbers, bundle = catalogue
    dtype = pl.UInt64 if numbers[0] >= 0 else pl.Int64
    pl.DataFrame({"item_id": pl.Series(numbers[:4], dtype=dtype)}).write_parquet(tmp_path / "some.parquet")
    (tmp_path / "some.txt").write_text("".join(f"{number}\n" for number in numbers[:4]))
    given = [_candidates(str(tmp_path / name), "item_id", bundle) for name in ("some.parquet", "some.txt")]
    assert given[0] == given[1]
    assert set(given[0][0]) == {told(catalogue, number) for number in numbers[:4]}
