"""Ctrl-C, and SIGTERM, with which a scheduler ends a job: what can be saved is saved, and the job ends in seconds."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_GRACE_SECONDS = 15.0
"""Time from a signal to the end of the process, whatever it waits for: the Ray that it speaks to may be gone."""


class Interruptions:
    """What interrupted a job."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    @property
    def status(self) -> int:
        """The exit status, as shells have it: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + (self.signal or signal.SIGINT)

    def handle(self, number: int, _: FrameType | None) -> None:
        """Raise :class:`KeyboardInterrupt` in the main thread; see to it that the process ends."""
        if self.signal is None:
            self.signal = signal.Signals(number)
            timer = threading.Timer(_GRACE_SECONDS, self._end)
            timer.daemon = True
            timer.start()
            raise KeyboardInterrupt

    def _end(self) -> None:
        sys.stderr.write(f"interrupted; what was waited for did not end within {_GRACE_SECONDS:.0f} s\n")
        sys.stderr.flush()
        os._exit(self.status)


@contextmanager
def interruptions() -> Iterator[Interruptions]:
    """Turn both signals into :class:`KeyboardInterrupt`, once: what is done to end cannot be interrupted again.

    Elsewhere than in the main thread nothing is changed.
    """
    found = Interruptions()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    before = {number: signal.signal(number, found.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
