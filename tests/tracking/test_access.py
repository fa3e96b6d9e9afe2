"""What answers in the place of an MLflow server: nothing, a page, a proxy, or one that wants a password."""

import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow.entities import Metric

from coldray.core.errors import TrackingError
from coldray.tracking import spool as spools
from coldray.tracking.access import check_reachable
from coldray.tracking.receiver import RefusedError, UnavailableError
from coldray.tracking.runs import StudyTracker, check_experiment
from coldray.tracking.server import MlflowServer
from coldray.tracking.spool import Spool

PAGE = "<!DOCTYPE html><html><body>Please sign in</body></html>"


class Answering(ThreadingHTTPServer):
    """Answers everything but the question whether it is well in one way."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.uri = f"http://127.0.0.1:{self.server_port}"
        self.health, self.others = (200, "OK"), (200, "{}")
        self.of_call = {}
        """Answers to single calls, by the end of their path."""


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, text = self.server.health if self.path.endswith("/health") else self.server.others
        status, text = self.server.of_call.get(self.path.partition("?")[0].rpartition("/")[2], (status, text))
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        if status in (301, 302):
            self.send_header("Location", "/login")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    do_POST = do_PATCH = do_PUT = do_GET  # noqa: N815 - what the library calls

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    made = Answering()
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        ((200, PAGE), "answers with a web page"),
        ((302, ""), "answers with a web page"),
        ((401, PAGE), r"refuses \(401\)\. Set MLFLOW_TRACKING_USERNAME"),
        ((403, "no"), r"refuses \(403\)\. Set MLFLOW_TRACKING_USERNAME"),
        ((404, PAGE), "answers 404 Not Found"),
        ((500, PAGE), "answers 500 Internal Server Error"),
        ((503, ""), "answers 503 Service Unavailable"),
    ],
)
def test_what_is_no_server_is_told_with_the_ways_out(server, health, expected):
    server.health, server.others = health, (200, PAGE)
    with pytest.raises(TrackingError, match=expected) as told:
        check_reachable(server.uri)
    assert "--offline" in str(told.value)
    assert "<html" not in str(told.value)


@pytest.mark.parametrize(("status", "code"), [(401, "UNAUTHENTICATED"), (403, "PERMISSION_DENIED")])
def test_a_password_that_is_asked_for_is_told_at_the_start(server, status, code):
    for text in (PAGE, f'{{"error_code": "{code}", "message": "no"}}'):
        server.others = (status, text)
        with pytest.raises(TrackingError, match="Set MLFLOW_TRACKING_USERNAME"):
            check_experiment(server.uri, "any")


def test_a_proxy_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://me:geheim@127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(TrackingError, match=r"through the proxy http://me:\*\*\*@127\.0\.0\.1:9; NO_PROXY=10\.0\.0\.1"):
        check_reachable("http://10.0.0.1:5000")


@pytest.mark.parametrize(
    "uri", ["http://", "http://[::1", "http://host:99999", "http://ho st", "http://:0", "https:///x"]
)
def test_an_address_that_is_none_is_refused(uri):
    with pytest.raises(TrackingError):
        check_reachable(uri)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("runs/mlruns", "plain files"),
        ("file:///somewhere/mlruns", "plain files"),
        ("postgresql://joe:s3cret@host/mlflow", "mlflow server --backend-store-uri"),
        ("mysql+pymysql://host/mlflow", "mlflow server --backend-store-uri"),
    ],
)
def test_what_studies_do_not_write_to_is_refused_with_the_way_out(uri, told):
    with pytest.raises(TrackingError, match=told):
        check_reachable(uri)


def json_of(code):
    return f'{{"error_code": "{code}", "message": "because"}}'


@pytest.mark.parametrize(
    ("status", "text", "away"),
    [
        (500, PAGE, True),
        (502, PAGE, True),
        (503, "", True),
        (504, "", True),
        (429, "slow down", True),
        (200, PAGE, True),
        (500, json_of("INTERNAL_ERROR"), True),
        (503, json_of("TEMPORARILY_UNAVAILABLE"), True),
        (429, json_of("REQUEST_LIMIT_EXCEEDED"), True),
        (400, json_of("INVALID_PARAMETER_VALUE"), False),
        (400, json_of("BAD_REQUEST"), False),
        (400, PAGE, False),
        (401, PAGE, False),
        (403, json_of("PERMISSION_DENIED"), False),
        (404, json_of("RESOURCE_DOES_NOT_EXIST"), False),
        (404, PAGE, False),
        (413, PAGE, False),
    ],
)
def test_what_passes_by_itself_is_told_from_what_does_not(server, status, text, away):
    server.others = (status, text)
    record = {"op": "log", "run": "r", "time": 0, "metrics": [["loss", 0.5, 0, 0]]}
    with pytest.raises(UnavailableError if away else RefusedError) as told:
        MlflowServer(server.uri, "any").send(record, {"r": "0" * 32}, again=False)
    assert len(str(told.value)) < 600


def test_calls_wait_for_a_page_to_go_away(server, tmp_path, monkeypatch):
    """A page to sign in, which answers 200, takes nothing."""
    monkeypatch.setattr(spools, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(spools, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(spools, "_PATIENCE_SECONDS", 0.3)
    server.others = (200, PAGE)
    spool = Spool(tmp_path / "tracking.jsonl", MlflowServer(server.uri, "any"), runs={"r": "0" * 32})
    spool.log("r", [Metric("loss", 0.5, 0, 0)])
    assert spool.flush() == 1
    server.others = (200, "{}")
    assert spool.close() == 0


def test_a_server_that_fails_at_the_start_does_not_stop_a_study(server, tmp_path):
    server.others, said = (503, ""), []
    tracker = StudyTracker(server.uri, "any", path=tmp_path / "tracking.jsonl", say=said.append)
    assert tracker.close(failed=False) == 0
    assert any("The study goes on" in line for line in said)


@pytest.fixture
def spool(server, tmp_path, monkeypatch):
    monkeypatch.setattr(spools, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(spools, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(spools, "_PATIENCE_SECONDS", 1.0)
    made = Spool(tmp_path / "tracking.jsonl", MlflowServer(server.uri, "any"), runs={"r": uuid.uuid4().hex})
    yield made
    made.close()


@pytest.mark.parametrize("other", [(200, "{}"), (403, json_of("PERMISSION_DENIED"))])
@pytest.mark.parametrize("answer", [(500, PAGE), (500, json_of("INTERNAL_ERROR")), (502, "")])
def test_a_call_at_which_a_working_server_always_fails_holds_up_no_other(server, spool, answer, other):
    server.of_call = {"log-batch": answer, "get-by-name": other}
    spool.log("r", [Metric("loss", 0.5, 0, 0)])
    spool.end("r", "FINISHED")
    spool.add("dataset", "r", dataset={"name": "n", "digest": "d", "source_type": "local", "source": "s"})
    assert spool.flush() == spool.refused == 1
    assert "It fails at calls of this kind, and works otherwise" in spool.missing()
    server.of_call = {}
    assert spool.retry() == 0


def test_nobody_waits_for_many_calls_that_always_fail(server, spool, monkeypatch):
    """Five tries and the pauses between them for each would keep a study of many trials from its end."""
    monkeypatch.setattr(spools, "FIRST_PAUSE", 0.2)
    server.of_call = {"log-batch": (500, PAGE)}
    started = time.monotonic()
    for number in range(40):
        spool.log("r", [Metric("loss", 0.5, 0, number)])
    assert spool.flush() == spool.refused == 40
    assert time.monotonic() - started < 40 * 4 * 0.2
    server.of_call = {}
    assert spool.retry() == 0


def test_a_server_that_fails_at_everything_refuses_nothing(server, spool):
    server.others = (500, PAGE)
    spool.log("r", [Metric("loss", 0.5, 0, 0)])
    assert (spool.flush(), spool.refused) == (1, 0)
    server.others = (200, "{}")
    assert spool.flush() == 0


@pytest.mark.parametrize(("status", "refused"), [(413, 1), (401, 1), (429, 0), (503, 0)])
def test_a_file_that_a_proxy_does_not_let_through_is_refused(server, spool, tmp_path, status, refused):
    run = {"run": {"info": {"run_id": spool.run_id("r"), "artifact_uri": "mlflow-artifacts:/0"}}}
    server.of_call = {"report.html": (status, PAGE), "get": (200, json.dumps(run))}
    (tmp_path / "report.html").write_text("<p>report</p>")
    spool.add("file", "r", path=str(tmp_path / "report.html"), folder="report")
    server.others = (500, PAGE)  # so that nothing is set aside for being failed at
    assert (spool.flush(), spool.refused) == (1, refused)
