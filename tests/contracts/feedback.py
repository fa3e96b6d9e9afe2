"""Events that are written to a store one at a time, as a service without a crowd writes them."""

from coldray.core.errors import DataFormatError
from coldray.serving.live.store import NewEvent


def put_event(store, *what, **options):
    """Write an event; return whether it is new, or raise what is wrong with it."""
    return _written(store, NewEvent(*what, **options))


def send_event(live, *what, **options):
    """Write an event as a live model takes it."""
    return _written(live.store, live.event(*what, **options))


def _written(store, event):
    (written,) = store.put_events([event])
    if isinstance(written, DataFormatError):
        raise written
    return written
