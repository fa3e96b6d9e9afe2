"""What is to be logged, in a file first: a tracking server that is slow, away or gone never stops a study.

Every call on the server is one record of an append-only journal, and names runs by keys of ours. A thread sends the
records in their order; a second journal holds how many were sent and which run of the server has which key. What is
sent twice, after a crash between the two or because an answer was lost, changes nothing: a run carries its key as a tag
and is looked for before it is made again, and metrics, parameters, tags, files and versions of models are the same as
before.

What the server refuses, such as all that is of a deleted run, is kept with the reason and never counts as sent: the
records after it go on, and it is sent once more when a study ends and whenever the journal is opened again.
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
from typing import Any

from mlflow.entities import Metric

from coldray.core.errors import ColdrayError, JournalError
from coldray.core.journal import Journal, Record
from coldray.core.masking import masked, masked_values
from coldray.tracking.limits import (
    CHANGED_TAG,
    PARAM_LIMIT,
    RUN_NAME_LIMIT,
    TAG_LIMIT,
    batches,
    taken_metrics,
    taken_text,
    taken_values,
)
from coldray.tracking.missing import kind_of, missing
from coldray.tracking.receiver import Receiver, RefusedError, UnavailableError

OPEN_STATUS = "RUNNING"
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds until a server that does not answer is asked again: at first, and after many failures."""
_PATIENCE_SECONDS = 20.0
"""At the end of a study, time that a server which does not answer is waited for."""
_PATHS = ("path", "bundle")
"""What of a call is not shown on the server."""


def receipts_of(path: Path) -> Path:
    """Return the journal of what was sent of that in `path`; without it, everything is sent again."""
    return path.with_name(f"{path.stem}.sent{path.suffix}")


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
        Told when the server stops answering, answers again, or refuses calls: once for each reason.

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
        self.path, self._receiver = path, receiver
        self._say: Callable[[str], None] = lambda message: say(masked(message)) if say else None
        self._journal = Journal(path)
        self._receipts = Journal(receipts_of(path))
        self._runs = dict(runs or {})
        self._outcomes: dict[int, str | None] = {}
        self._sent = 0
        """Records of smaller numbers are sent, or refused."""
        self._refusals: dict[int, str] = {}
        """Why records were refused, by their numbers."""
        self._told: set[str] = set()
        for receipt in self._receipts.read():
            self._take(receipt)
        records = self._numbered()
        self._unsent = deque(pair for pair in records if pair[0] >= self._sent or pair[0] in self._refusals)
        self._refused: dict[int, Record] = {}
        if receiver is None:
            self._set_aside()
        self._next = max(self._sent, records[-1][0] + 1 if records else 0)
        self._tried = self._next
        """Records of smaller numbers may have reached the server: an earlier process may have sent them without a
        receipt, or the answer was lost."""
        self.status: dict[str, str] = {}
        """The status that each run was last given, by key."""
        self.steps: dict[tuple[str, str], int] = {}
        """The last step of each metric, by the key of its run and its name."""
        self._changed_values: dict[str, dict[str, None]] = {}
        """What was changed for MLflow, by run."""
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
        number = receipt.get("number", self._sent - 1)
        self._outcomes[number] = receipt.get("outcome")
        if "run" in receipt:
            self._runs[receipt["run"]] = receipt["outcome"]
        self._refusals.pop(number, None)
        if "refused" in receipt:
            self._refusals[number] = receipt["refused"]

    def _set_aside(self) -> None:
        """Part what was refused from what has not been tried."""
        self._refused |= {number: record for number, record in self._unsent if number < self._sent}
        self._unsent = deque(pair for pair in self._unsent if pair[0] >= self._sent)

    def _note(self, record: Record) -> None:
        for name, _, _, step in record.get("metrics", ()):
            self.steps[record["run"], name] = max(step, self.steps.get((record["run"], name), step))
        if record["op"] == "run":
            self.status[record["run"]] = OPEN_STATUS
        elif CHANGED_TAG in record.get("tags", {}):
            self._changed_values[record["run"]] = dict.fromkeys(record["tags"][CHANGED_TAG].split("; "))
        elif record["op"] == "status":
            self.status[record["run"]] = record["status"]

    @property
    def waiting(self) -> int:
        """Records that are not sent, refused ones among them."""
        return len(self._unsent) + len(self._refused)

    @property
    def refused(self) -> int:
        """Records that the server has refused, and has not accepted since."""
        return len(self._refused)

    def missing(self) -> str:
        """Return in one line what the server has refused and why; nothing if there is no such record."""
        with self._changed:
            return missing([(record, self._refusals[number]) for number, record in sorted(self._refused.items())])

    def add(self, op: str, run: str, **values: Any) -> int:
        """Add a call; return its number.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        if op == "run":
            name = taken_text(values["name"], RUN_NAME_LIMIT)
            tags, changed = taken_values("tag", values["tags"], TAG_LIMIT)
            tags |= {CHANGED_TAG: self._changes(run, changed)} if changed else {}
            values = {**values, "name": name, "tags": tags}
        with self._changed:
            number = self._next
            shown = {name: value if name in _PATHS else masked_values(value) for name, value in values.items()}
            record = {"number": number, "op": op, "run": run, "time": int(time.time() * 1000), **shown}
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
        """Add metrics, parameters and tags of a run, however many; a tag ``{"run": key}`` is the id of that run.

        Such a tag is a record of its own: it cannot be sent where that run is refused, and holds nothing else up. What
        MLflow does not take as it is is changed, and told by a tag of the run.
        """
        links = {name: value for name, value in (tags or {}).items() if isinstance(value, dict)}
        texts = {name: str(value) for name, value in (tags or {}).items() if name not in links}
        points = [[metric.key, metric.value, metric.timestamp, metric.step] for metric in metrics]
        points, changed = taken_metrics(points)
        params, more = taken_values("parameter", params or {}, PARAM_LIMIT)
        texts, others = taken_values("tag", texts, TAG_LIMIT)
        if changed := [*changed, *more, *others]:
            texts[CHANGED_TAG] = self._changes(run, changed)
        for batch in batches(points, params, texts):
            self.add("log", run, **batch)
        if links:
            self.add("log", run, tags=links)

    def _changes(self, run: str, changed: Sequence[str]) -> str:
        """Tell what has been changed, kinds of it once; return all that is known of the run."""
        kind = kind_of(changed[0])
        if kind not in self._told:
            self._told.add(kind)
            self._say(f"for MLflow, {'; '.join(changed[:3])}{'; …' if len(changed) > 3 else ''} (tag {CHANGED_TAG})")
        known = self._changed_values.setdefault(run, {})
        known |= dict.fromkeys(changed)
        return taken_text("; ".join(known), TAG_LIMIT)

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
        """Wait until all is sent or refused, as long as the server answers; return how many records are left."""
        self._wait(self._next)
        return self.waiting

    def retry(self) -> int:
        """Send once more what was refused, as it may have been restored meanwhile; return how many records are left."""
        self.flush()
        with self._changed:
            if self._thread is not None and not self._unsent:
                self._unsent.extend(sorted(self._refused.items()))
                self._refused.clear()
                self._changed.notify_all()
        return self.flush()

    def _running(self) -> bool:
        return self._thread is not None and not self._down and bool(self._unsent)

    def _wait(self, last: int) -> None:
        given_up = None
        with self._changed:
            while self._thread is not None and self._unsent and self._unsent[0][0] <= last:
                if self._down:
                    given_up = given_up or time.monotonic() + _PATIENCE_SECONDS
                    if time.monotonic() > given_up:
                        return
                else:
                    given_up = None
                self._changed.wait(0.1)

    def close(self) -> int:
        """Send what can be sent, and end the thread; return how many records are left, refused ones among them."""
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
                while not self._closing and not self._unsent:
                    self._changed.wait()
                if not self._unsent or (self._closing and self._down):
                    return
                number, record = self._unsent[0]
            try:
                outcome, reason = self._deliver(receiver, record, again=number < max(self._tried, self._sent))
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
            self._done(record, number, outcome, reason)

    def _deliver(self, receiver: Receiver, record: Record, *, again: bool) -> tuple[str | None, str]:
        """Return what came of a call, and why it was refused: nothing if it was not."""
        try:
            return receiver.send(record, self._runs, again=again), ""
        except UnavailableError:
            raise
        except RefusedError as error:
            reason = str(error)
        except Exception as error:  # whatever it is, the thread has to go on
            reason = masked(f"{type(error).__name__}: {error}.")
        kind = kind_of(reason)
        if kind not in self._told:
            self._told.add(kind)
            self._say(f"{reason} What it does not take is kept in {self.path}.")
        return None, reason

    def _done(self, record: Record, number: int, outcome: str | None, reason: str) -> None:
        receipt: Record = {"sent": max(self._sent, number + 1), "number": number, "outcome": outcome}
        if record["op"] == "run" and outcome:
            receipt["run"] = record["run"]
        if reason:
            receipt["refused"] = reason
        try:
            self._receipts.append(receipt)
        except ColdrayError as error:  # sent twice after a crash, which changes nothing
            self._say(str(error))
        with self._changed:
            self._down = False
            self._unsent.popleft()
            self._take(receipt)
            if reason:
                self._refused[number] = record
            self._changed.notify_all()
