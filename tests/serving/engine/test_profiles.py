"""Scores that are kept are those that would be made, and there is never more of them than there is room for."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from coldray.serving.engine.engine import Engine
from coldray.serving.engine.profiles import _CLICK_BYTES, KeptProfiles, Profile, all_scores
from coldray.serving.engine.queries import Query


def profile(row, items, scores=None):
    cells = np.array(items, np.int32), np.ones(len(items), np.float32)
    return Profile(dict.fromkeys(items), cells, True, scores, row)


def test_scores_of_a_user_are_made_once(bundle):
    engine, scored = Engine(bundle), []
    scorer, users = engine.maker.scorer, bundle.user_ids.tolist()
    engine.maker = replace(
        engine.maker, scorer=lambda histories: scored.append(histories.shape[0]) or scorer(histories)
    )
    first = engine.answer([Query(user_id=user, k=5) for user in users[:4]])
    again = engine.answer([Query(user_id=user, k=5) for user in users[2:6]])
    assert scored == [4, 2]
    assert [answer.places for answer in again[:2]] == [answer.places for answer in first[2:]]
    fresh = Engine(bundle).answer([Query(user_id=user, k=5) for user in users[2:6]])
    assert [[place.item for place in answer.places] for answer in again] == [
        [place.item for place in answer.places] for answer in fresh
    ]


def test_what_a_user_does_counts_though_his_scores_were_kept(bundle):
    engine, user = Engine(bundle), bundle.user_ids[1]
    (before,) = engine.answer([Query(user_id=user, k=20)])
    engine.observe(user, before.places[3].item, None)
    (after,) = engine.answer([Query(user_id=user, k=20)])
    (told,) = Engine(bundle, events={user: {before.places[3].item: None}}).answer([Query(user_id=user, k=20)])
    assert after.places == told.places != before.places


def test_kept_scores_are_not_written_to(bundle):
    """A mask, an exclusion and a diverse list leave them as they are."""
    engine, user = Engine(bundle), bundle.user_ids[5]
    plain = Query(user_id=user, k=10)
    (before,) = engine.answer([plain])
    banned = tuple(place.item for place in before.places[:4])
    engine.answer([Query(user_id=user, exclude=banned, diversity=0.5), Query(user_id=user, candidates="cold")])
    assert engine.answer([plain])[0].places == before.places


def test_those_who_are_nobody_are_not_kept():
    kept = KeptProfiles()
    all_scores([profile(None, [1]), profile(3, [0, 2])], kept, lambda histories: np.ones((len(histories), 4)))
    assert len(kept) == 1
    assert kept.get(3).scores.tolist() == [1, 1, 1, 1]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=40))
def test_there_is_never_more_than_there_is_room_for(asked):
    kept = KeptProfiles(max_bytes=2 * (40 + 2 * _CLICK_BYTES))
    for row, length in asked:
        kept.put(profile(row, range(length), np.zeros(10, np.float32)))
        size = sum(40 + _CLICK_BYTES * len(found.history) for found in map(kept.get, range(6)) if found is not None)
        assert size <= 2 * (40 + 2 * _CLICK_BYTES)
