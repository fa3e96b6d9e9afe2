"""Lists as the service writes them, with the reasons for their places."""

import json

import numpy as np
import pytest

from coldray.bundle.reasons import explain
from coldray.serving.api.answers import answer_json
from coldray.serving.api.schemas import RecommendResponse
from coldray.serving.engine.queries import Query
from coldray.serving.live.model import LiveModel, ModelVersion


def test_the_response_says_in_shares_why(bundle, store):
    live = LiveModel(bundle, ModelVersion("m", "1"), store)
    (answer,) = live.engine.answer([Query(user_id="user-0003", k=25)])
    plain = json.loads(answer_json(live, answer))
    assert "reasons" not in plain["items"][0]
    assert "explanation" not in plain
    found = explain(live.engine.bundle, live.engine.maker, answer.history, answer.places)
    response = RecommendResponse.model_validate(json.loads(answer_json(live, answer, found)))
    assert response.explanation is not None
    for item in response.items[:20]:
        assert sum(part.share for part in item.parts) == pytest.approx(1, rel=2e-3)
        assert np.isclose(item.reasons[0].share, item.reasons[0].added / item.score)
        assert item.reasons[0].name == item.reasons[0].name.strip() != ""
    assert [item.reasons for item in response.items[20:]] == [None] * 5
