"""Where the calls of a spool are sent, and how that can fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from coldray.core.errors import TrackingError
from coldray.core.journal import Record


class UnavailableError(TrackingError):
    """The server does not answer now; the same call may succeed later."""


class RefusedError(TrackingError):
    """The server answers, and does not accept this call until something is changed there."""


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
            If it does not accept the call.
        """
