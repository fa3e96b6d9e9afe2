"""What fits in workers had to leave out or fall back on: their warnings, which no terminal shows."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_warnings() -> Iterator[list[str]]:
    """Keep the warnings of the platform's loggers while this lasts, each once, in a list that grows."""
    notes: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said = record.getMessage()
            if said not in notes:
                notes.append(said)

    keeper, logger = Keeper(logging.WARNING), logging.getLogger("coldray")
    logger.addHandler(keeper)
    try:
        yield notes
    finally:
        logger.removeHandler(keeper)
