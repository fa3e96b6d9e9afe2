"""Warnings of what may happen with every request: said once, and then once in a while, with their number."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

_EVERY_S = 60.0


class RareWarning:
    """Logs at most one warning in `_EVERY_S` seconds, and with the next one how many there were between."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger, self._clock = logger, clock
        self._silent_until = float("-inf")
        self._unsaid = 0

    def __call__(self, message: str, *values: object) -> None:
        """Log a warning, with the values in the places of its ``%s``, unless one was logged just now."""
        now = self._clock()
        if now < self._silent_until:
            self._unsaid += 1
            return
        more = f" ({self._unsaid} times more since the last such line)" if self._unsaid else ""
        self._logger.warning(message + more, *values)
        self._silent_until, self._unsaid = now + _EVERY_S, 0
