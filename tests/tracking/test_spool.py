"""What is to be logged survives a server that is slow, away or gone, and a process that is killed at any call."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from coldray.core.errors import JournalError
from coldray.core.journal import Journal
from coldray.tracking import limits
from coldray.tracking import spool as spools
from coldray.tracking.receiver import RefusedError, UnavailableError
from coldray.tracking.server import MlflowServer
from coldray.tracking.spool import Spool


class Server:
    """A server in memory, which can be away, refuse, or lose its connection after it has done what was asked."""

    def __init__(self):
        self.calls, self.runs, self.down, self.refused = [], {}, False, set()
        self.dies_after = None

    def send(self, record, runs, *, again):
        if self.down:
            raise UnavailableError("the server is away.")
        if record["op"] in self.refused:
            raise RefusedError("the server refuses.")
        outcome = None
        if record["op"] == "run":
            if again and record["run"] in self.runs:
                return self.runs[record["run"]]
            assert record["run"] not in self.runs, "made twice"
            outcome = self.runs[record["run"]] = f"id of {record['run']}"
        else:
            assert record["run"] in runs
        self.calls.append((record["op"], record["run"], record.get("status") or record.get("params")))
        if self.dies_after is not None and len(self.calls) >= self.dies_after:
            self.down, self.dies_after = True, None
            raise UnavailableError("the connection was lost.")
        return outcome


@pytest.fixture(autouse=True)
def impatient(monkeypatch, request):
    """Wait a little; not at all in properties, where a server that is away stays so until the process has ended."""
    monkeypatch.setattr(spools, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(spools, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(spools, "_PATIENCE_SECONDS", 0.01 if hasattr(request.function, "hypothesis") else 0.2)


def fill(spool, count=4):
    spool.add("run", "study", name="study", tags={}, parent=None)
    for number in range(count):
        key = f"study/{number}"
        spool.add("run", key, name=key, tags={}, parent="study")
        spool.log(key, params={"x": str(number)})
        spool.end(key, "FINISHED")
    spool.end("study", "FINISHED")


def expected(count=4):
    calls = [("run", "study", None)]
    for number in range(count):
        key = f"study/{number}"
        calls += [("run", key, None), ("log", key, {"x": str(number)}), ("status", key, "FINISHED")]
    return [*calls, ("status", "study", "FINISHED")]


def test_calls_are_made_in_their_order(tmp_path):
    server = Server()
    spool = Spool(tmp_path / "tracking.jsonl", server)
    fill(spool)
    assert spool.close() == 0
    assert server.calls == expected()
    assert spool.run_id("study/3") == "id of study/3"


def test_a_server_that_is_away_is_told_once_and_gets_all_when_it_is_back(tmp_path):
    server, said = Server(), []
    spool = Spool(tmp_path / "tracking.jsonl", server, say=said.append)
    spool.add("run", "study", name="study", tags={}, parent=None)
    spool.flush()
    server.down = True
    started = time.monotonic()
    for number in range(4):
        spool.log("study", params={"x": str(number)})
    assert time.monotonic() - started < 0.1  # nobody has waited for the server
    deadline = time.monotonic() + 5
    while not said and time.monotonic() < deadline:
        time.sleep(0.01)
    server.down = False
    assert spool.flush() == 0
    assert [params for op, _, params in server.calls if op == "log"] == [{"x": str(number)} for number in range(4)]
    assert len(said) == 2
    assert "The study goes on" in said[0]
    assert "tracking.jsonl" in said[0]
    spool.close()


def test_what_is_left_at_the_end_is_sent_by_the_next_process(tmp_path):
    server = Server()
    server.down = True
    spool = Spool(tmp_path / "tracking.jsonl", server)
    fill(spool)
    assert spool.close() == len(expected())
    server.down = False
    later = Spool(tmp_path / "tracking.jsonl", server)
    assert later.flush() == 0
    assert server.calls == expected()
    assert later.status == {"study": "FINISHED", **{f"study/{number}": "FINISHED" for number in range(4)}}
    later.close()


def test_offline_keeps_everything_and_asks_nobody(tmp_path):
    spool = Spool(tmp_path / "tracking.jsonl", None)
    fill(spool)
    assert spool.run_id("study") is None
    assert spool.close() == len(expected())
    server = Server()
    later = Spool(tmp_path / "tracking.jsonl", server)
    assert later.close() == 0
    assert server.calls == expected()


@given(deaths=st.lists(st.integers(1, 13), max_size=4))
@settings(max_examples=12)
def test_a_process_killed_between_a_call_and_its_receipt_changes_nothing(tmp_path_factory, deaths):
    """The journal of calls is whole, the receipts end anywhere: what has no receipt is made again."""
    folder = tmp_path_factory.mktemp("spool")
    server = Server()
    fill(Spool(folder / "tracking.jsonl", None))
    for sent in sorted(deaths):
        server.dies_after = sent
        server.calls = server.calls[: sent - 1] if sent <= len(server.calls) else server.calls
        spool = Spool(folder / "tracking.jsonl", server)
        spool.close()
        server.down, server.dies_after = False, None
    last = Spool(folder / "tracking.jsonl", server)
    assert last.close() == 0
    assert set(server.runs) == {"study", *(f"study/{number}" for number in range(4))}
    for call in expected():
        assert call in server.calls or call[0] == "run"


def test_a_refused_call_is_told_and_the_others_are_made(tmp_path):
    server, said = Server(), []
    server.refused = {"log"}
    spool = Spool(tmp_path / "tracking.jsonl", server, say=said.append)
    fill(spool, 3)
    assert spool.close() == spool.refused == 3
    others = [call for call in expected(3) if call[0] != "log"]
    assert server.calls == others
    assert said == [f"the server refuses. What it does not take is kept in {spool.path}."]
    assert spool.missing() == (
        "missing on the tracking server: 3 sets of metrics, parameters and tags. the server refuses."
    )
    assert Spool(spool.path, None).missing() == spool.missing()


@given(
    refused=st.sets(st.sampled_from(["run", "log", "status"])), processes=st.integers(1, 3), deaths=st.integers(0, 14)
)
@settings(max_examples=12)
def test_what_is_refused_is_never_sent_and_sent_when_it_is_taken(tmp_path_factory, refused, processes, deaths):
    """Whatever is refused, by however many processes, of which one may be killed at any call: all arrives, once."""

    class Strict(Server):
        def send(self, record, runs, *, again):
            if record["op"] != "run" and record["run"] not in runs:
                raise RefusedError(f"the run '{record['run']}' is not there.")
            return super().send(record, runs, again=again)

    path = tmp_path_factory.mktemp("spool") / "tracking.jsonl"
    fill(Spool(path, None))
    server = Strict()
    for number in range(processes):
        server.refused = refused
        server.dies_after = deaths if number == 0 and deaths else None
        spool = Spool(path, server)
        assert spool.retry() == spool.waiting
        spool.close()
        assert len(expected()) - spool.waiting <= sum(call in server.calls for call in expected())
        server.down, server.dies_after = False, None
    server.refused = set()
    last = Spool(path, server)
    assert last.retry() == last.close() == 0
    assert {str(call) for call in server.calls} == {str(call) for call in expected()}
    assert Spool(path, server).waiting == 0


def test_a_refused_call_is_sent_at_the_end_of_the_same_process(tmp_path):
    server = Server()
    server.refused = {"log", "status"}
    spool = Spool(tmp_path / "tracking.jsonl", server)
    fill(spool, 2)
    assert spool.flush() == 5
    server.refused = set()
    assert spool.retry() == spool.close() == 0
    assert sorted(server.calls, key=str) == sorted(expected(2), key=str)
    assert spool.missing() == ""


def test_a_call_that_was_made_but_not_answered_is_not_made_twice(tmp_path):
    """By the same process: the connection is lost after the server has made a run, again and again."""

    class Lossy(Server):
        lost = 0

        def send(self, record, runs, *, again):
            outcome = super().send(record, runs, again=again)
            if record["op"] == "run" and not again:
                self.lost += 1
                raise UnavailableError("the answer was lost.")
            return outcome

    server = Lossy()
    spool = Spool(tmp_path / "tracking.jsonl", server)
    fill(spool)
    assert spool.close() == 0
    assert server.lost == 5
    assert [call for call in server.calls if call[0] == "run"] == [call for call in expected() if call[0] == "run"]
    assert server.calls == expected()


@given(sent=st.integers(0, 14), deleted=st.sets(st.integers(0, 13), max_size=5))
@settings(max_examples=10)
def test_lines_may_be_deleted_wherever_the_server_is(tmp_path_factory, sent, deleted):
    """What they recorded is not logged, or has been; all else is, once, and what comes later too."""
    path = tmp_path_factory.mktemp("spool") / "tracking.jsonl"
    fill(Spool(path, None))
    first = Server()
    if sent:
        first.dies_after = sent
        Spool(path, first).close()
    first.down = False
    before, first.calls = list(first.calls), []
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for number, line in enumerate(lines) if number not in deleted))
    said = []
    spool = Spool(path, first, say=said.append)
    spool.add("run", "later", name="later", tags={}, parent=None)
    left = spool.close()
    made = before + first.calls
    kept = [call for number, call in enumerate(expected()) if number not in deleted]
    known = {call[1] for call in kept if call[0] == "run"}
    assert all(call in made for call in kept if call[1] in known)
    assert left == spool.refused == sum(call not in made for call in kept)
    assert "later" in first.runs


def test_lines_that_were_moved_are_told(tmp_path):
    path = tmp_path / "tracking.jsonl"
    fill(Spool(path, None))
    first, second, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([second, first, *others]))
    with pytest.raises(JournalError, match=r"Record 0 of .* comes after record 1"):
        Spool(path, None)


def test_a_damaged_file_is_told(tmp_path):
    path = tmp_path / "tracking.jsonl"
    fill(Spool(path, None))
    path.write_bytes(path.read_bytes().replace(b"study/2", b"study/9", 1))
    with pytest.raises(JournalError, match="is damaged"):
        Spool(path, None)


def test_more_than_the_server_takes_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "METRICS_LIMIT", 3)
    monkeypatch.setattr(limits, "VALUES_LIMIT", 2)
    spool = Spool(tmp_path / "tracking.jsonl", None)
    metrics = [Metric(f"m{number}", number, 0, 0) for number in range(7)]
    spool.log("run", metrics, {str(number): "p" for number in range(5)}, {"t": "1"})
    records = Journal(tmp_path / "tracking.jsonl").read()
    assert [len(record.get("metrics", ())) for record in records] == [3, 3, 1, 0, 0]
    assert [len(record.get("params", ())) for record in records] == [0, 0, 2, 2, 1]
    assert [record.get("tags") for record in records] == [None] * 4 + [{"t": "1"}]


def test_a_run_is_ended_once_and_can_go_on(tmp_path):
    spool = Spool(tmp_path / "tracking.jsonl", None)
    spool.add("run", "r", name="r", tags={}, parent=None)
    spool.reopen("r")
    spool.end("r", "KILLED")
    spool.end("r", "FINISHED")
    spool.reopen("r")
    spool.end("r", "FINISHED")
    statuses = [record["status"] for record in Journal(spool.path).read() if record["op"] == "status"]
    assert statuses == ["KILLED", "RUNNING", "FINISHED"]


def test_nobody_waits_for_ever_for_an_outcome(tmp_path):
    server, others = Server(), set(threading.enumerate())
    spool = Spool(tmp_path / "tracking.jsonl", server)
    place = spool.add("run", "r", name="r", tags={}, parent=None)
    assert spool.outcome(place) == "id of r"
    server.down = True
    started = time.monotonic()
    assert spool.outcome(spool.log("r", params={"x": "1"}) or 1) is None
    assert time.monotonic() - started < 5
    assert spool.close() == 1
    while (left := set(threading.enumerate()) - others) and time.monotonic() - started < 10:
        time.sleep(0.01)
    assert not left


# A real database.


@pytest.fixture
def made(tracking_uri, tmp_path, request):
    fill(Spool(tmp_path / "tracking.jsonl", None))
    return tmp_path / "tracking.jsonl", MlflowServer(tracking_uri, request.node.name)


def test_whatever_was_sent_before_a_crash_the_database_says_the_same(made, tracking_uri):
    """Every call is made again, as after a crash that lost all receipts."""
    path, server = made
    receipts = path.with_name("tracking.sent.jsonl")
    for _ in range(2):
        receipts.unlink(missing_ok=True)
        with_metrics = Spool(path, server)
        with_metrics.close()
    spool = Spool(path, server)
    spool.reopen("study/0")
    spool.log("study/0", [Metric("loss", 0.5, 1000, step) for step in range(3)])
    spool.end("study/0", "FINISHED")
    spool.close()
    receipts.unlink()
    Spool(path, server).close()
    client = MlflowClient(tracking_uri, tracking_uri)
    runs = {run.data.tags["coldray.key"]: run for run in client.search_runs([server.experiment_id])}
    assert len(client.search_runs([server.experiment_id])) == 5
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    history = client.get_metric_history(runs["study/0"].info.run_id, "loss")
    assert sorted(metric.step for metric in history) == [0, 1, 2]
    assert {runs[f"study/{number}"].data.params["x"] for number in range(4)} == {"0", "1", "2", "3"}
