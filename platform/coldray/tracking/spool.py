"""What is to be logged, in a file first: a tracking server that is slow, away or gone never stops a study.

Every call on the server is one record of an append-only journal, and names runs by keys of ours. A thread sends the
records in their order; a second journal holds how many were sent and which run of the server has which key. What is
sent twice, after a crash between the two or because an answer was lost, changes nothing: a run carries its key as a tag
and is looked for before it is made again, and metrics, parameters, tags, files and versions of models are the same as
before.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from mlflow.entities import Metric

from coldray.errors import ColdrayError, JournalError
from coldray.journal import Journal, Record

OPEN_STATUS = "RUNNING"
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds until a server that does not answer is asked again: at first, and after many failures."""
PATIENCE_SECONDS = 20.0
"""At the end of a study, time that a server which does not answer is waited for."""
METRICS_LIMIT, VALUES_LIMIT = 1000, 100
"""Metrics, and parameters or tags, that MLflow takes in one call."""


class UnavailableError(ColdrayError):
    """The server does not answer now; the same call may succeed later."""


class RefusedError(ColdrayError):
    """The server will never accept this call."""


class Receiver(Protocol):
    """Where records are sent."""

    def send(self, record: Record, runs: Mapping[str, str], *, again: bool) -> str | None:
        """Make the call that a record describes; return the id of a run it makes, or the version of a model.

        Parameters
        ----------
        runs
            The ids of runs by their keys.
        again
            True if the call may have been made before.

        Raises
        ------
        UnavailableError
            If the server does not answer.
        RefusedError
            If it will never accept the call.
        """


class Spool:
    """Calls on the tracking server, written to a file and sent in order by a thread.

    Parameters
    ----------
    path
        The journal of calls. What an earlier process left there is sent first. None is a file that goes with this
        object.
    receiver
        Where they are sent; None keeps them for later.
    runs
        Ids of runs that exist already, by key.
    say
        Told when the server stops answering, answers again, or refuses a call.

    Raises
    ------
    JournalError
        If a journal is damaged, or its records are not in the order of their numbers.
    """

    def __init__(
        self,
        path: Path | None,
        receiver: Receiver | None,
        *,
        runs: Mapping[str, str] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        if path is None:
            folder = tempfile.mkdtemp(prefix="coldray-tracking-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            path = Path(folder) / "tracking.jsonl"
        self.path, self._receiver, self._say = path, receiver, say or (lambda _: None)
        self._journal = Journal(path)
        self._receipts = Journal(path.with_name(f"{path.stem}.sent{path.suffix}"))
        self._runs = dict(runs or {})
        self._outcomes: dict[int, str | None] = {}
        self._sent = 0
        """Records of smaller numbers are sent."""
        for receipt in self._receipts.read():
            self._take(receipt)
        records = self._numbered()
        self._unsent = deque((number, record) for number, record in records if number >= self._sent)
        self._next = max(self._sent, records[-1][0] + 1 if records else 0)
        self._tried = self._next
        """Records of smaller numbers may have reached the server: an earlier process may have sent them without a
        receipt, or the answer was lost."""
        self.status: dict[str, str] = {}
        """The status that each run was last given, by key."""
        for _, record in records:
            self._note(record)
        self._changed = threading.Condition()
        self._down = False
        self._closing = False
        self._thread: threading.Thread | None = None
        if self.waiting:
            self._start()

    def _numbered(self) -> list[tuple[int, Record]]:
        """Return the records of the journal with their numbers, by which receipts name them: a line may be deleted."""
        records = [(record.get("number", line), record) for line, record in enumerate(self._journal.read())]
        for (number, _), (after, _) in pairwise(records):
            if after <= number:
                raise JournalError(
                    f"Record {after} of {self.path} comes after record {number}: lines were moved, or some of an older "
                    "version deleted. Put back a copy of the file; without one, delete it and its .sent file: what the "
                    "tracking server has not been sent is missing there then, the study itself goes on."
                )
        return records

    def _start(self) -> None:
        """Start to send, unless that is done or nobody is to be sent to."""
        if self._thread is None and self._receiver is not None:
            self._closing = False
            self._thread = threading.Thread(target=self._work, args=(self._receiver,), name="tracking", daemon=True)
            self._thread.start()

    def _take(self, receipt: Record) -> None:
        self._sent = receipt["sent"]
        self._outcomes[self._sent - 1] = receipt.get("outcome")
        if "run" in receipt:
            self._runs[receipt["run"]] = receipt["outcome"]

    def _note(self, record: Record) -> None:
        if record["op"] == "run":
            self.status[record["run"]] = OPEN_STATUS
        elif record["op"] == "status":
            self.status[record["run"]] = record["status"]

    @property
    def waiting(self) -> int:
        """Records that are not sent."""
        return len(self._unsent)

    def add(self, op: str, run: str, **values: Any) -> int:
        """Add a call; return its number.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        with self._changed:
            number = self._next
            record = {"number": number, "op": op, "run": run, "time": int(time.time() * 1000), **values}
            self._journal.append(record)
            self._next += 1
            self._unsent.append((number, record))
            self._note(record)
            self._start()
            self._changed.notify_all()
            return number

    def log(
        self,
        run: str,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Add metrics, parameters and tags of a run, however many; a tag ``{"run": key}`` is the id of that run."""
        plain = [[metric.key, metric.value, metric.timestamp, metric.step] for metric in metrics]
        pairs = {"params": list((params or {}).items()), "tags": list((tags or {}).items())}
        while plain or any(pairs.values()):
            values = {name: dict(of[:VALUES_LIMIT]) for name, of in pairs.items() if of}
            self.add("log", run, metrics=plain[:METRICS_LIMIT], **values)
            plain, pairs = plain[METRICS_LIMIT:], {name: of[VALUES_LIMIT:] for name, of in pairs.items()}

    def end(self, run: str, status: str) -> None:
        """Give a run that is open its last status."""
        if self.status.get(run) == OPEN_STATUS:
            self.add("status", run, status=status)

    def reopen(self, run: str) -> None:
        """Let a run that has ended go on."""
        if self.status.get(run, OPEN_STATUS) != OPEN_STATUS:
            self.add("status", run, status=OPEN_STATUS)

    def run_id(self, run: str) -> str | None:
        """Return the server's id of a run; None if it has not been made there, or no thread sends."""
        with self._changed:
            while run not in self._runs and self._running():
                self._changed.wait(0.1)
            return self._runs.get(run)

    def outcome(self, number: int) -> str | None:
        """Wait until the record of that number is sent, as long as the server answers; return what came of it."""
        self._wait(number)
        return self._outcomes.get(number)

    def flush(self) -> int:
        """Wait until all is sent, as long as the server answers; return how many records are left."""
        self._wait(self._next)
        return self.waiting

    def _running(self) -> bool:
        return self._thread is not None and not self._down and self.waiting > 0

    def _wait(self, last: int) -> None:
        given_up = None
        with self._changed:
            while self._thread is not None and self._unsent and self._unsent[0][0] <= last:
                if self._down:
                    given_up = given_up or time.monotonic() + PATIENCE_SECONDS
                    if time.monotonic() > given_up:
                        return
                else:
                    given_up = None
                self._changed.wait(0.1)

    def close(self) -> int:
        """Send what can be sent, and end the thread; return how many records are left."""
        left = self.flush()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(LONGEST_PAUSE)
            self._thread = None
        return left

    def _work(self, receiver: Receiver) -> None:
        pause = FIRST_PAUSE
        while True:
            with self._changed:
                while not self._closing and self.waiting == 0:
                    self._changed.wait()
                if self.waiting == 0 or (self._closing and self._down):
                    return
                number, record = self._unsent[0]
            try:
                outcome = self._deliver(receiver, record, again=number < self._tried)
            except UnavailableError as error:
                self._tried = max(self._tried, number + 1)
                if not self._down:
                    self._say(f"{error} The study goes on; what is to be logged waits in {self.path}.")
                with self._changed:
                    self._down = True
                    self._changed.notify_all()
                    self._changed.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            if self._down:
                self._say("the tracking server answers again")
            pause = FIRST_PAUSE
            self._done(record, number, outcome)

    def _deliver(self, receiver: Receiver, record: Record, *, again: bool) -> str | None:
        try:
            return receiver.send(record, self._runs, again=again)
        except RefusedError as error:
            self._say(f"{error} The call is left out; it stays in {self.path}.")
            return None
        except UnavailableError:
            raise
        except Exception as error:  # whatever it is, the thread has to go on
            self._say(f"{type(error).__name__}: {error}. The call is left out; it stays in {self.path}.")
            return None

    def _done(self, record: Record, number: int, outcome: str | None) -> None:
        receipt: Record = {"sent": number + 1, "outcome": outcome}
        if record["op"] == "run" and outcome:
            receipt["run"] = record["run"]
        try:
            self._receipts.append(receipt)
        except ColdrayError as error:  # sent twice after a crash, which changes nothing
            self._say(str(error))
        with self._changed:
            self._down = False
            self._unsent.popleft()
            self._take(receipt)
            self._changed.notify_all()
