"""Whatever a study logs is on a real server afterwards: as it was, or in another form that the run tells."""

import itertools
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from coldray.core.errors import TrackingError
from coldray.tracking import limits
from coldray.tracking.limits import CHANGED_TAG, _taken_name, batches, taken_text
from coldray.tracking.runs import check_experiment
from coldray.tracking.server import MlflowServer
from coldray.tracking.spool import Spool

ODD = [
    "ndcg@10",
    "a//b",
    "../x",
    "/x",
    ".",
    "..",
    "x/",
    "a/./b",
    "Ü ñ",
    "科学",
    "a\nb",
    "x" * 251,
    " ",
    "a:b",
    "..x",
    "'`",
]
NAMES = st.text(min_size=1, max_size=300) | st.sampled_from(ODD)
TEXTS = st.text(max_size=20) | st.sampled_from(["x" * 6001, "é" * 9000, "🎬" * 6000, "a\0b", ""])
VALUES = st.floats() | st.sampled_from([math.inf, -math.inf, math.nan, 1e308, 5e-324])
COUNTER = itertools.count()


@given(st.lists(NAMES, max_size=30, unique=True))
def test_names_that_differ_are_taken_as_names_that_differ(names):
    assert len({_taken_name(name) for name in names}) == len(names)
    for name in names:
        assert _taken_name(_taken_name(name)) == _taken_name(name)


@pytest.fixture(scope="module")
def server(tracking_uri):
    return MlflowServer(tracking_uri, "limits")


@given(
    metrics=st.dictionaries(NAMES, VALUES, max_size=4),
    params=st.dictionaries(NAMES, TEXTS, max_size=4),
    tags=st.dictionaries(NAMES, TEXTS, max_size=4),
)
@settings(max_examples=25)
def test_everything_is_there_or_told(tmp_path_factory, server, metrics, params, tags):
    said, key = [], f"limits/{next(COUNTER)}"
    spool = Spool(tmp_path_factory.mktemp("spool") / "tracking.jsonl", server, say=said.append)
    spool.add("run", key, name="limits", tags={}, parent=None)
    spool.log(key, [Metric(name, value, 1000, 0) for name, value in metrics.items()], params, tags)
    assert spool.close() == 0, spool.missing()
    run = server.client.get_run(spool.run_id(key))
    told = run.data.tags.get(CHANGED_TAG, "")
    for name, value in metrics.items():
        if math.isinf(value):
            assert f"is {value} at step 0" in told
        else:
            assert run.data.metrics[_taken_name(name)] == pytest.approx(value, nan_ok=True)
    for found, given_values in ((run.data.params, params), (run.data.tags, tags)):
        for name, value in given_values.items():
            there = found[_taken_name(name)]
            assert there == value or (there.endswith(f"(the first of {len(value):,} characters)") and "is cut" in told)
    changed = [name for name in (*metrics, *params, *tags) if _taken_name(name) != name]
    assert bool(changed) <= bool(told)
    assert bool(told) == bool(said)


def test_more_metrics_parameters_and_tags_than_one_call_takes_are_all_there(tmp_path, server):
    """A thousand metrics go with no parameter in one call: MLflow counts them together."""
    metrics = [Metric(f"m{number}", number, 1000, step) for number in range(30) for step in range(70)]
    params = {f"p{number}": "é" * 6000 for number in range(250)}
    spool = Spool(tmp_path / "tracking.jsonl", server)
    spool.add("run", "many", name="x" * 400, tags={"long": "y" * 9000}, parent=None)
    spool.log("many", metrics, params, {f"t{number}": "1" for number in range(150)})
    assert spool.close() == 0, spool.missing()
    client: MlflowClient = server.client
    run = client.get_run(spool.run_id("many"))
    assert all(run.data.params[name] == value for name, value in params.items())
    assert sum(len(client.get_metric_history(run.info.run_id, f"m{number}")) for number in range(30)) == 2100
    assert all(f"t{number}" in run.data.tags for number in range(150))
    assert run.data.tags["long"].endswith("(the first of 9,000 characters)")
    assert "tag 'long' is cut" in run.data.tags[CHANGED_TAG]


@given(
    st.lists(st.tuples(st.text(max_size=5), st.floats(), st.just(0), st.just(0)).map(list), max_size=40),
    st.dictionaries(st.text(max_size=5), st.text(max_size=50), max_size=30),
    st.dictionaries(st.text(max_size=5), st.text(max_size=50), max_size=30),
)
def test_batches_hold_everything_in_its_order(metrics, params, tags):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "METRICS_LIMIT", 7)
        patch.setattr(limits, "VALUES_LIMIT", 5)
        patch.setattr(limits, "BATCH_LIMIT", 9)
        patch.setattr(limits, "BATCH_BYTES", 1500)
        found = list(batches(metrics, params, tags))
    assert [metric for batch in found for metric in batch.get("metrics", ())] == metrics
    assert [pair for batch in found for pair in batch.get("params", {}).items()] == list(params.items())
    assert [pair for batch in found for pair in batch.get("tags", {}).items()] == list(tags.items())
    for batch in found:
        assert 0 < sum(map(len, batch.values())) <= 9
        assert len(json.dumps(batch)) <= 4000


def test_a_text_that_is_cut_says_how_long_it_was():
    assert taken_text("x" * 100, 100) == "x" * 100
    cut = taken_text("x" * 101, 100)
    assert len(cut) == 100
    assert cut.endswith("x … (the first of 101 characters)")


@pytest.mark.parametrize("name", ["", "  ", "x" * 501])
def test_an_experiment_name_that_mlflow_refuses_is_refused_at_the_start(tracking_uri, name):
    with pytest.raises(TrackingError, match="at most 500 characters"):
        check_experiment(tracking_uri, name)
