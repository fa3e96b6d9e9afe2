"""Lists as JSON, written by hand: most of it, what is known of each item, is text that the engine keeps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from coldray.bundle.lists import Place
from coldray.bundle.reasons import Explained, ItemReasons
from coldray.bundle.similar import SimilarItems
from coldray.serving.engine.queries import Answer
from coldray.serving.live.model import LiveModel


def answer_json(live: LiveModel, answer: Answer, explained: Explained | None = None) -> str:
    """Return a :class:`~coldray.serving.api.schemas.RecommendResponse`."""
    items = _items(live, answer.places, () if explained is None else explained.items)
    why = ""
    if explained is not None:
        why = f',"explanation":{json.dumps({"kind": explained.kind, "note": explained.note})}'
    if answer.exploration is not None:
        why += f',"exploration":"{answer.exploration}"'
    if answer.unknown_context:
        why += f',"unknown_context":{json.dumps(answer.unknown_context)}'
    return f'{{"items":[{items}],"path":"{answer.path}","model":{_model(live)}{why}}}'


def similar_json(live: LiveModel, found: SimilarItems) -> str:
    """Return a :class:`~coldray.serving.api.schemas.SimilarResponse`."""
    search = json.dumps({"search": found.search, "recall": found.recall})[1:-1]
    return f'{{"items":[{_items(live, found.places, ())}],{search},"model":{_model(live)}}}'


def _items(live: LiveModel, places: Sequence[Place], reasons: Sequence[ItemReasons]) -> str:
    written = []
    for number, place in enumerate(places):
        why = f",{_reasons(live, place.score, reasons[number])}" if number < len(reasons) else ""
        written.append(f'{{"rank":{number + 1},"score":{place.score!r},{live.engine.facts(place.item)}{why}}}')
    return ",".join(written)


def _reasons(live: LiveModel, score: float, reasons: ItemReasons) -> str:
    engine = live.engine

    def added(value: float) -> dict[str, Any]:
        return {"added": value, "share": value / score if score else None}

    strongest = [
        {
            "item_id": reason.item,
            "name": engine.names[engine.place(reason.item)],
            "part": reason.part,
            "shared": reason.shared,
            **added(reason.added),
        }
        for reason in reasons.strongest
    ]
    parts = [{"part": part, **added(value)} for part, value in reasons.parts.items()]
    return json.dumps({"reasons": strongest, "parts": parts})[1:-1]


def _model(live: LiveModel) -> str:
    return json.dumps({"name": live.version.name, "version": live.version.version})
