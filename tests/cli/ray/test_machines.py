"""What a cluster has free is told, and machines on which no worker starts, or of other versions, are refused."""

import time

import pytest
import ray

from coldray.cli.progress import study as progress
from coldray.cli.progress.study import StudyProgress
from coldray.cli.ray import machines
from coldray.cli.ray.machines import _own_versions, check_machines, free_words, tell_what_is_free
from coldray.core.errors import ClusterError

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def busy():
    """All CPUs are somebody else's."""

    @ray.remote(num_cpus=2, max_retries=0)
    def others():
        time.sleep(60)

    task = others.remote()
    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU", 0) >= 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    yield
    ray.cancel(task, force=True)


def test_machines_on_which_workers_start_are_taken_without_a_word():
    said = []
    check_machines(said.append)
    assert said == []


def test_a_machine_on_which_no_worker_starts_ends_the_job(monkeypatch):
    for name in ("SLOW_SECONDS", "LAST_SECONDS"):
        monkeypatch.setattr(machines, name, 0.0)
    with pytest.raises(ClusterError, match=r"No worker of Ray has started for 0 s on [\d.]+\. .*raylet\.err.*ray stop"):
        check_machines(lambda _: None)


def test_a_machine_that_is_slow_is_told_and_waited_for(monkeypatch):
    said = []
    monkeypatch.setattr(machines, "SLOW_SECONDS", 0.0)
    check_machines(said.append)
    assert len(said) == 1
    assert said[0].startswith("no worker of Ray has started for 0 s on ")


def test_a_machine_of_another_version_is_refused(monkeypatch):
    mine = {**_own_versions(), "coldray": "99.0"}
    monkeypatch.setattr(machines, "_own_versions", lambda: mine)
    with pytest.raises(ClusterError, match=r"has coldray \d\S*, not 99\.0 as this process\. Install the same"):
        check_machines(lambda _: None)


def test_a_machine_without_a_package_that_adds_a_model_is_refused(monkeypatch):
    mine = {**_own_versions(), "more-models": "1.2"}
    monkeypatch.setattr(machines, "_own_versions", lambda: mine)
    with pytest.raises(ClusterError, match=r"has more-models none, not 1\.2 as this process\. Install the same"):
        check_machines(lambda _: None)


def test_a_machine_that_lacks_a_package_is_named(monkeypatch):
    def missing():
        raise ModuleNotFoundError("No module named 'coldray'")

    monkeypatch.setattr(machines, "_versions", ray.remote(num_cpus=0, max_retries=0)(missing))
    with pytest.raises(ClusterError, match=r"The machine [\d.]+ .* cannot work .*named 'coldray'\. Install"):
        check_machines(lambda _: None)


def test_what_a_search_on_a_busy_cluster_waits_for_is_told(busy, monkeypatch, capsys):
    said = []
    tell_what_is_free(said.append)
    assert said == ["0 of 2 CPUs of the cluster are free: the job waits until others end, or a machine joins"]
    assert free_words() == "0 of 2 CPUs"
    made = StudyProgress(progress.Console(width=200))
    made.search_started(3, 2, "ndcg@10")
    monkeypatch.setattr(progress, "LINE_SECONDS", -1.0)
    made.shared([])
    told = capsys.readouterr().out
    assert "0 trials done, waiting for a worker (a trial takes 1 CPU or more; free are 0 of 2 CPUs)" in told
