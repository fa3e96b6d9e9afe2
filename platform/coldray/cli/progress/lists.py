"""What the job of lists for all users says while it runs: a line now and then, on a terminal and in a log alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from coldray.cli.lines import from_here, timed
from coldray.experiments.listeners import StudyListener
from coldray.reports.labels import counted
from coldray.serving.batch.lists import Counts

_LINE_SECONDS = 5.0
"""The least time between two lines of one kind."""


class ListsProgress(StudyListener):
    """Prints how far the job is and what it could not use."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.counts = Counts()
        """Over all finished partitions, those of earlier runs included."""
        self._partitions = self._finished = self._before = self._users_before = 0
        self._started = self._line = time.monotonic()

    def stage(self, message: str) -> None:
        """Print one line."""
        self._line = time.monotonic()
        self.console.print(timed(message), highlight=False)

    def rows_done(self, rows: int) -> Callable[[int], None]:
        """Return what is told how many of `rows` have been spread."""

        def told(done: int) -> None:
            if time.monotonic() - self._line > _LINE_SECONDS:
                self.stage(f"{done:,} of {rows:,} rows spread")

        return told

    def lists_started(self, partitions: int, finished: Mapping[int, Counts]) -> list[int]:
        """Say what an earlier run has left; return the numbers of the partitions that are to be made."""
        self._partitions, self._finished, self._before = partitions, len(finished), len(finished)
        for counts in finished.values():
            self.counts.add(counts)
        self._users_before = self.counts.users
        if finished:
            self.stage(f"{len(finished)} of {counted(partitions, 'partition')} are finished and stay as they are")
        return [number for number in range(partitions) if number not in finished]

    @contextmanager
    def making(self, workers: int) -> Iterator[None]:
        """Say that lists are made during the block, and how to go on if it is interrupted."""
        self._started = time.monotonic()
        self.stage(f"making lists by {counted(workers, 'worker')}")
        try:
            yield
        except KeyboardInterrupt:
            left = counted(self._partitions - self._finished, "partition")
            self.stage(f"interrupted; the same command goes on with the {left} left")
            raise

    def partition_done(self, counts: Counts) -> None:
        """Count a partition."""
        self.counts.add(counts)
        self._finished += 1
        last = self._finished == self._partitions
        if not last and time.monotonic() - self._line < _LINE_SECONDS:
            return
        seconds = time.monotonic() - self._started
        speed = (self.counts.users - self._users_before) / max(seconds, 1e-9)
        left = (self._partitions - self._finished) * seconds / (self._finished - self._before)
        self.stage(
            f"{self._finished} of {self._partitions} partitions, {self.counts.users:,} users, {speed:,.0f} users/s"
            + ("" if last else f", about {left:,.0f} s left")
        )

    def lists_ended(self, output: Path) -> None:
        """Say what came of it."""
        counts = self.counts
        ways = f"{counts.history:,} by their history, {counts.popularity:,} by popularity"
        ways += f", {counts.profile:,} by their profile alone" if counts.profile else ""
        self.stage(f"{counted(counts.users, 'user')}: {ways}, {counts.attributes:,} of new items alone")
        if counts.unknown_items:
            self.stage(f"left out: {counts.unknown_items:,} rows with an item that the model does not know")
        if counts.blanks:
            merged = f"; {counted(counts.merged_users, 'user')} become one with another" if counts.merged_users else ""
            self.stage(f"blanks around {counts.blanks:,} ids are left out{merged}")
        if counts.without_user:
            self.stage(f"left out: {counts.without_user:,} rows without a user")
        self.stage(f"lists: {from_here(output)}/part-*.parquet")
