"""A shared computation runs once in the cluster, however many ask for it and from wherever."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray
from ray import cloudpickle

from coldray.core.errors import SingularMatrixError
from coldray.experiments.search.shared import ClusterComputations
from coldray.experiments.search.shared_results import SharedResults
from coldray.models.computations import Computations, result_of
from coldray.models.marec.alignment import gram_spectrum
from contracts.forked_workers import NOT_FORKED
from contracts.problems import random_training_set

# Workers cannot import this module by its name, so what it defines travels by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
pytestmark = pytest.mark.usefixtures("ray_cluster")


@dataclass(frozen=True)
class Numbers:
    """Data with a key, and a file in which each execution leaves a line."""

    key: str
    values: tuple[int, ...]
    journal: str


def total(data, *, factor, seconds=0.0):
    with Path(data.journal).open("a") as stream:  # one short write at the end of a file is not torn apart
        stream.write(f"total {data.key} {factor} {os.getpid()}\n")
    time.sleep(seconds)
    return factor * sum(data.values)


def refuse(data, *, reason):
    with Path(data.journal).open("a") as stream:
        stream.write(f"refuse {data.key} {reason}\n")
    raise SingularMatrixError(f"{data.key}: {reason}")


def plain_total(data):
    return total(data, factor=1)


def no_pivot(data):
    refuse(data, reason="no pivot")


def above(data, *, limit, total):
    return total > limit


@ray.remote(num_cpus=0)
def ask(results, data, function, parameters):
    """Ask from a process of its own; return its id with the answer or the error."""
    try:
        return os.getpid(), ClusterComputations(results).get(function, data, **parameters)
    except SingularMatrixError as error:
        return os.getpid(), error


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "journal"
    path.touch()
    return path


@pytest.fixture
def results():
    actor = SharedResults.remote()
    yield actor
    ray.kill(actor)


@pytest.fixture
def numbers(results, journal):
    """Return data that the cluster knows under its key."""

    def make(key, *values):
        data = Numbers(key, values, str(journal))
        ray.get(results.add_data.remote(key, [ray.put(data)]))
        return data

    return make


def test_many_askers_in_several_processes_share_one_execution(results, numbers, journal):
    data = numbers("a", 1, 2, 3)
    asked = [ask.remote(results, data, total, {"factor": 10, "seconds": 1.5}) for _ in range(5)]
    answers = ray.get(asked)
    assert [answer for _, answer in answers] == [60] * 5
    assert len({process for process, _ in answers}) > 1
    assert len(journal.read_text().splitlines()) == 1
    assert ClusterComputations(results).get(total, data, factor=10, seconds=1.5) == 60
    assert len(journal.read_text().splitlines()) == 1


def test_the_process_of_the_results_loads_nothing_of_what_is_computed():
    """Each study starts one, and a model with its libraries takes seconds to load."""
    results = SharedResults.options(runtime_env=NOT_FORKED).remote()
    train = random_training_set(0)
    ray.get(results.add_data.remote(train.key, [ray.put(train)]))
    found = ClusterComputations(results).get(gram_spectrum, train, lambda_0=0.5, solver="items")
    assert found.values.shape == gram_spectrum(train, lambda_0=0.5, solver="items").values.shape
    loaded = ray.get(results.__ray_call__.remote(lambda _: sorted(sys.modules)))
    assert "coldray.experiments.search.shared_results" in loaded
    assert not {"torch", "scipy", "pandas", "ray.tune", "coldray.models"} & {*loaded}
    ray.kill(results)


def test_data_and_parameters_are_told_apart(results, numbers, journal):
    shared = ClusterComputations(results)
    first, second = numbers("a", 1, 2), numbers("b", 10)
    assert shared.get(total, first, factor=1) == 3
    assert shared.get(total, first, factor=2) == 6
    assert shared.get(total, first, factor=2.0) == 6.0
    assert shared.get(total, second, factor=1) == 10
    assert shared.get(total, second, seconds=0.0, factor=1) == 10
    assert shared.get(total, second, factor=1, seconds=0.0) == 10
    assert len(journal.read_text().splitlines()) == 5


def test_an_error_reaches_every_asker_as_what_it_was_and_is_not_retried(results, numbers, journal):
    data = numbers("a", 1)
    answers = ray.get([ask.remote(results, data, refuse, {"reason": "no pivot"}) for _ in range(3)])
    for _, error in answers:
        assert isinstance(error, SingularMatrixError)
        assert "a: no pivot" in str(error)
    with pytest.raises(SingularMatrixError, match="a: no pivot"):
        ClusterComputations(results).get(refuse, data, reason="no pivot")
    assert len(journal.read_text().splitlines()) == 1
    assert ClusterComputations(results).get(total, data, factor=3) == 3


def test_a_local_cache_and_the_cluster_answer_alike(results, numbers):
    data = numbers("a", 4, 5)
    assert ClusterComputations(results).get(total, data, factor=2) == Computations().get(total, data, factor=2)


def test_a_result_among_the_parameters_is_computed_once_for_all(results, numbers, journal):
    data, shared = numbers("a", 4, 5), ClusterComputations(results)
    for cluster in (shared, Computations()):
        journal.write_text("")
        assert [cluster.get(above, data, limit=limit, total=result_of(plain_total)) for limit in (8, 9)] == [
            True,
            False,
        ]
        assert len(journal.read_text().splitlines()) == 1
    labels = [status.label for status in ray.get(results.status.remote())]
    assert labels == ["plain_total of a", "above of a", "above of a"]


def test_a_result_among_the_parameters_is_told_by_its_own_parameters(results, numbers, journal):
    data, cluster = numbers("a", 4, 5), ClusterComputations(results)
    for shared in (cluster, Computations()):
        journal.write_text("")
        for limit, factor in ((20, 2), (17, 2), (20, 3)):
            found = shared.get(above, data, limit=limit, total=result_of(total, factor=factor))
            assert found == (9 * factor > limit)
        assert [line.split()[:3] for line in journal.read_text().splitlines()] == [
            ["total", "a", "2"],
            ["total", "a", "3"],
        ]
        assert shared.get(total, data, factor=3) == 27, "a result that is asked for by itself is the same one"
        assert len(journal.read_text().splitlines()) == 2
    with pytest.raises(TypeError, match="total was given positional parameters; name them"):
        result_of(total, 2)


def test_an_error_among_the_parameters_is_what_it_was(results, numbers):
    data = numbers("a", 1)
    with pytest.raises(SingularMatrixError, match="a: no pivot"):
        ClusterComputations(results).get(above, data, limit=1, total=result_of(no_pivot))


def test_positional_parameters_are_refused(results, numbers):
    data = numbers("a", 1)
    with pytest.raises(TypeError, match="total was given positional parameters; name them"):
        ClusterComputations(results).get(total, data, 3)


def test_the_status_tells_running_from_done_in_the_order_asked(results, numbers):
    shared = ClusterComputations(results)
    first, second = numbers("seed 1 / split 0", 1), numbers("seed 1 / split 1", 1)
    assert ray.get(results.status.remote()) == []
    shared.get(total, first, factor=1)
    slow = ask.remote(results, second, total, {"factor": 1, "seconds": 1.5})
    deadline = time.monotonic() + 20
    while len(status := ray.get(results.status.remote())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [(entry.label, entry.state) for entry in status] == [
        ("total of seed 1 / split 0", "done"),
        ("total of seed 1 / split 1", "running"),
    ]
    ray.get(slow)
    first_done, second_done = ray.get(results.status.remote())
    assert second_done.state == "done"
    assert second_done.seconds >= 1.4
    time.sleep(0.1)
    assert ray.get(results.status.remote()) == [first_done, second_done], "the time of a finished one stands still"


def test_a_failed_computation_is_not_shown_as_running(results, numbers):
    data = numbers("a", 1)
    with pytest.raises(SingularMatrixError):
        ClusterComputations(results).get(refuse, data, reason="no")
    assert [entry.state for entry in ray.get(results.status.remote())] == ["done"]


def test_labels_are_in_words_and_name_what_differs(results, numbers):
    def gram_spectrum(data, *, lambda_0, solver):
        return lambda_0

    data = numbers("seed 42 / split 1", 1)
    shared = ClusterComputations(results)
    shared.get(gram_spectrum, data, lambda_0=0.0, solver="auto")
    shared.get(gram_spectrum, data, lambda_0=2.5, solver="auto")
    assert [entry.label for entry in ray.get(results.status.remote())] == [
        "eigendecomposition of seed 42 / split 1",
        "eigendecomposition of seed 42 / split 1 (λ₀=2.5)",
    ]
