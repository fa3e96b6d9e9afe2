"""A live model that explores, and what is sent to it."""

from itertools import count

from coldray.serving.engine.engine import Engine
from coldray.serving.exploration.explore import ExplorationConfig
from coldray.serving.live.model import ModelVersion
from contracts.feedback import send_event

VERSION = ModelVersion("m", "1")
METHODS = ("linucb", "thompson")
LINUCB, THOMPSON = (ExplorationConfig(method=method) for method in METHODS)
NUMBERS = count()


def record(bundle, place):
    """Return the attributes of a known item, as somebody would send those of a new one."""
    known = Engine(bundle).attributes(bundle.item_ids[place])
    return {name: known[name] for name in bundle.encoder.kinds if name in known}


def items_of(answer):
    return [place.item for place in answer.places]


def feed(live, user, items, clicked):
    for item in items:
        assert send_event(live, f"{next(NUMBERS)}", user, item, None, clicked=clicked)
    live.refresh()
