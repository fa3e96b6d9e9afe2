"""What each stage of an ablation is tuned over."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import ConfigError
from coldray.experiments.ablation.run import (
    _BASELINE,
    _beside_edge,
    _check_stages,
    _stage_configurations,
    _stage_of,
    _stages,
    neighbours,
)
from coldray.experiments.edges import Edge
from coldray.experiments.space import StudyConfig
from coldray.models.marec.plus import MARecPlusConfig

SPACE = {
    "lambda_1": {"choice": [1.0, 10.0]},
    "order": 1,
    "batch_size": 16,
    "ca_weight": {"choice": [0, 0.5, 1.0]},
    "ca_temperature": {"choice": [0.2, 0.3]},
    "ca_embedding_dim": 8,
    "ua_weight": {"choice": [0, 1.0]},
    "ge_weight": {"choice": [1.0, 0, 2.0]},
    "ge_kl_weight": {"choice": [0.3, 1.0]},
}
WEIGHTS = ("ca_weight", "ua_weight", "ge_weight")


def study(space=SPACE, trials=48, seed=0, **fields):
    return StudyConfig.model_validate(
        {"name": "small", "model": "marec_plus", "space": space, "search": {"trials": trials, "seed": seed}, **fields}
    )


def tuned(config, choose):
    """Return the configurations of every stage, where `choose` takes the position of the best of each."""
    chosen, listed = {}, []
    for stage in _stages():
        configurations = _stage_configurations(config, stage, chosen)
        listed.append(configurations)
        chosen = configurations[choose(len(configurations))]
    return listed


def test_the_stages_add_one_refinement_after_the_other():
    assert [stage.name for stage in _stages()] == ["MARec", "+CA", "+CA+UA", "+CA+UA+GE"]
    assert [stage.prefix for stage in _stages()] == [None, "ca", "ua", "ge"]
    assert _stages()[0].name == _BASELINE


def test_a_parameter_belongs_to_the_stage_of_its_prefix():
    assert {name: _stage_of(name) for name in ("lambda_1", "batch_size", "ca_weight", "ua_confidence_power")} == {
        "lambda_1": None,
        "batch_size": None,
        "ca_weight": "ca",
        "ua_confidence_power": "ua",
    }
    every = [_stage_of(name) for name in MARecPlusConfig.model_fields]
    assert {prefix: every.count(prefix) for prefix in ("ca", "ua", "ge")} == {"ca": 3, "ua": 2, "ge": 4}


def test_the_baseline_has_all_refinements_left_out():
    baseline = tuned(study(), lambda n: 0)[0]
    assert [point["lambda_1"] for point in baseline] == [1.0, 10.0]
    for point in baseline:
        assert [point[name] for name in WEIGHTS] == [0, 0, 0]
        assert (point["order"], point["batch_size"]) == (1, 16)
        assert "ca_temperature" not in point


def test_a_stage_keeps_what_was_chosen_and_leaves_later_ones_out():
    _, ca, ua, ge = tuned(study(), lambda n: n - 1)
    assert {point["lambda_1"] for point in (*ca, *ua, *ge)} == {10.0}
    assert [(point["ca_weight"], point.get("ca_temperature")) for point in ca] == [
        (0, None),
        (0.5, 0.2),
        (0.5, 0.3),
        (1.0, 0.2),
        (1.0, 0.3),
    ]
    assert {(point["ua_weight"], point["ge_weight"]) for point in ca} == {(0, 0)}
    assert [point["ca_embedding_dim"] for point in ca[1:]] == [8] * 4
    assert {(point["ca_weight"], point["ca_temperature"], point["ge_weight"]) for point in ua} == {(1.0, 0.3, 0)}
    assert [point["ua_weight"] for point in ua] == [0, 1]
    assert {(point["ca_weight"], point["ca_temperature"], point["ua_weight"]) for point in ge} == {(1.0, 0.3, 1.0)}
    assert [(point["ge_weight"], point.get("ge_kl_weight")) for point in ge] == [
        (0, None),
        (1.0, 0.3),
        (1.0, 1.0),
        (2.0, 0.3),
        (2.0, 1.0),
    ]


def test_a_refinement_left_out_stays_so():
    _, ca, ua, ge = tuned(study(), lambda n: 0)
    assert ca[0]["ca_weight"] == 0
    assert {point["ca_weight"] for point in (*ua, *ge)} == {0}
    assert {point["ua_weight"] for point in ge} == {0}


@pytest.mark.parametrize("weight", [{"choice": [1.0, 2.0]}, 1.5, None])
def test_the_weight_0_is_tried_though_it_is_not_listed(weight):
    space = {**SPACE, "ca_weight": weight}
    if weight is None:  # the model's own default then
        del space["ca_weight"]
    ca = tuned(study(space), lambda n: 0)[1]
    assert [point.get("ca_weight") for point in ca].count(0) == 1
    assert ca[0]["ca_weight"] == 0
    assert len(ca) == (5 if isinstance(weight, dict) else 3)


def test_a_refinement_fixed_at_0_is_one_configuration():
    assert [point["ca_weight"] for point in tuned(study({**SPACE, "ca_weight": 0}), lambda n: 0)[1]] == [0]


def test_at_most_so_many_trials_drawn_by_the_seed():
    space = {**SPACE, "lambda_1": {"choice": [float(i) for i in range(1, 41)]}}
    first, again, other = (
        [point["lambda_1"] for point in tuned(study(space, 6, seed), lambda n: 0)[0]] for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert len(first) == len(set(first)) == 6
    assert first == sorted(first)
    assert max(first) > 6, "these are the first six, not six drawn"
    assert [len(configurations) for configurations in tuned(study(space, 3), lambda n: 0)] == [3, 3, 2, 3]


@given(
    trials=st.integers(2, 12),
    seed=st.integers(0, 5),
    sizes=st.lists(st.integers(1, 4), min_size=4, max_size=4),
    choices=st.lists(st.integers(0, 100), min_size=4, max_size=4),
)
def test_whatever_the_space_the_stages_build_on_each_other(trials, seed, sizes, choices):
    weights = [float(i) for i in range(4)]
    space = {
        "lambda_1": {"choice": [1.0 + i for i in range(sizes[0])]},
        "ca_weight": {"choice": weights[: sizes[1]]},
        "ua_weight": {"choice": weights[: sizes[2]]},
        "ge_weight": {"choice": weights[::-1][: sizes[3]]},
        "ge_kl_weight": {"choice": [0.5, 1.0]},
    }
    config = study(space, trials, seed)
    picks = iter(choices)
    picked = []

    def choose(n):
        picked.append(next(picks) % n)
        return picked[-1]

    listed = tuned(config, choose)
    for position, configurations in enumerate(listed):
        assert 1 <= len(configurations) <= trials
        for a, b in itertools.combinations(configurations, 2):
            assert a != b
        for point in configurations:
            MARecPlusConfig.model_validate(point)
            assert all(point[name] == 0 for name in WEIGHTS[position:])
        if position:
            before, own = listed[position - 1][picked[position - 1]], _stages()[position].prefix
            assert [point[f"{own}_weight"] == 0 for point in configurations] == [True] + [False] * (
                len(configurations) - 1
            )
            for point in configurations:
                kept = {name for name in before if _stage_of(name) != own}
                assert {name: point[name] for name in kept} == {name: before[name] for name in kept}


def test_a_space_of_listed_values_is_accepted():
    for config in (study(), study({**SPACE, "batch_size": {"choice": [16]}})):
        _check_stages(config)
        assert all(_stage_configurations(config, stage, {}) for stage in _stages())


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({"lambda_1": {"log_uniform": [1, 10]}}, r"space\.lambda_1: .*listed values.*not log_uniform"),
        ({"ca_weight": {"uniform": [0, 1]}}, r"space\.ca_weight: .*not uniform"),
        ({"ge_latent_dim": {"int_uniform": [4, 8]}}, r"space\.ge_latent_dim: .*not int_uniform"),
        ({"batch_size": {"choice": [16, 32]}}, r"space\.batch_size: .*cannot choose among \[16, 32\].*one value"),
        ({"dropout": {"choice": [0.1, 0.2]}}, r"space\.dropout: "),
        ({"seed": 3}, r"space\.seed: .*seed of each split"),
    ],
)
def test_what_no_stage_could_choose_is_refused(space, expected):
    with pytest.raises(ConfigError, match=expected):
        _check_stages(study({**SPACE, **space}))


def test_another_model_is_refused():
    config = StudyConfig.model_validate({"name": "other", "model": "marec", "space": {"order": {"choice": [1, 2]}}})
    with pytest.raises(ConfigError, match=r"of the model 'marec_plus'; the study 'other' tunes 'marec'"):
        _check_stages(config)


def test_a_sample_of_users_is_refused():
    config = study({"lambda_1": 10.0})
    sampled = config.splits.model_copy(update={"users": 10})
    with pytest.raises(ConfigError, match=r"splits\.users: an ablation measures all users"):
        _check_stages(config.model_copy(update={"splits": sampled}))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("scheduler", {"scheduler": {"by": "splits"}}),
        ("search.first", {"search": {"first": [{}]}}),
        ("selection.tolerance", {"selection": {"tolerance": 0.05}}),
        ("selection.simplest", {"selection": {"simplest": [{"delta": "low"}]}}),
    ],
)
def test_what_no_stage_reads_is_refused(name, fields):
    config = StudyConfig.model_validate({"name": "small", "model": "marec_plus", "space": SPACE, **fields})
    with pytest.raises(ConfigError, match=f"{name}: an ablation tries all of a stage"):
        _check_stages(config)
    _check_stages(study())


def test_too_few_trials_to_try_a_refinement_are_refused():
    with pytest.raises(ConfigError, match=r"search\.trials: 1 .*Use 2 or more"):
        _check_stages(study(trials=1))


def test_beside_an_end_is_the_next_value_inwards_unless_it_is_the_other_end():
    values = [100.0, 1.0, 10.0, 1000.0]
    config = study({"lambda_1": {"choice": values}, "w0": {"choice": [0.2, 0.5]}})
    for end, value, expected in (("low", 1.0, 10.0), ("high", 1000.0, 100.0)):
        assert _beside_edge(config, Edge("lambda_1", value, end, ""), {"lambda_1": value}) == {"lambda_1": expected}
    assert _beside_edge(config, Edge("w0", 0.5, "high", ""), {"w0": 0.5}) is None


def test_neighbours_differ_in_one_parameter_of_the_stage():
    space = {"lambda_1": {"choice": [1.0, 2.0, 3.0]}, "order": {"choice": [1, 2]}, "ca_weight": {"choice": [0, 1, 2]}}
    config, best = study(space), {"lambda_1": 2.0, "order": 1, "ca_weight": 1}
    baseline, refined, *_ = _stages()
    changed = [
        {name: one[name] for name in one if one[name] != best[name]} for one in neighbours(config, baseline, best)
    ]
    assert changed == [{"lambda_1": 1.0}, {"lambda_1": 3.0}, {"order": 2}]
    assert neighbours(config, refined, best) == [{**best, "ca_weight": 2}]
    assert neighbours(config, refined, {**best, "ca_weight": 0}) == []
