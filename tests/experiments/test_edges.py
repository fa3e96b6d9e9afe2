"""Which choices lie on the edge of what was searched, and where that is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.experiments.ablation.run import _stage_edges, _stages
from coldray.experiments.edges import _EDGE_SHARE, edge_words, found_edges
from coldray.experiments.space import StudyConfig
from coldray.models.linear.svd import SVDConfig
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.plus import MARecPlusConfig


def ends(space, chosen, kind=MARecConfig):
    return [(edge.parameter, edge.end) for edge in found_edges(space, chosen, kind)]


@pytest.mark.parametrize(
    ("spec", "value", "expected"),
    [
        ({"log_uniform": [1, 10000]}, 1.2, "low"),
        ({"log_uniform": [1, 10000]}, 9000.0, "high"),
        ({"log_uniform": [1, 10000]}, 100.0, None),
        ({"log_uniform": [1, 10000]}, 500.0, None),  # near the lower end, but not in logarithms
        ({"uniform": [10, 20]}, 19.6, "high"),
        ({"uniform": [10, 20]}, 19.4, None),
        ({"choice": [300, 1000, 3000]}, 300, "low"),
        ({"choice": [3000, 300, 1000]}, 3000, "high"),
        ({"choice": [300, 1000, 3000]}, 1000, None),
        ({"choice": [300]}, 300, None),
        (300.0, 300.0, None),
    ],
)
def test_ends_of_ranges_and_lists(spec, value, expected):
    assert ends({"lambda_1": spec}, {"lambda_1": value}) == ([] if expected is None else [("lambda_1", expected)])


@pytest.mark.parametrize(
    ("kind", "name", "spec", "value", "expected"),
    [
        (MARecConfig, "lambda_0", {"choice": [0, 1, 10]}, 0, []),  # no weight below 0
        (MARecConfig, "lambda_0", {"choice": [0, 1, 10]}, 10, ["high"]),
        (MARecConfig, "w0", {"choice": [0.05, 0.2, 1]}, 1, []),  # no share above 1
        (MARecConfig, "w0", {"choice": [0.05, 0.2, 1]}, 0.05, ["low"]),  # 0 itself is none, but there is more above it
        (MARecConfig, "order", {"choice": [1, 2]}, 2, []),  # there is no third
        (MARecConfig, "learner", {"choice": ["regression", "nonnegative"]}, "regression", []),
        (MARecConfig, "delta", {"choice": [5, {"a": 1.0}]}, 5, []),  # not a list of numbers
        (MARecPlusConfig, "ca_weight", {"choice": [0, 0.3, 1]}, 0, []),
        (MARecPlusConfig, "ca_weight", {"choice": [0, 0.3, 1]}, 1, ["high"]),
        (SVDConfig, "n_factors", {"int_uniform": [1, 100]}, 1, []),
        (SVDConfig, "n_factors", {"int_uniform": [2, 100]}, 2, ["low"]),
        (SVDConfig, "n_factors", {"int_uniform": [2, 100]}, 97, ["high"]),
    ],
)
def test_an_end_of_the_parameter_itself_is_no_edge(kind, name, spec, value, expected):
    assert ends({name: spec}, {name: value}, kind) == [(name, end) for end in expected]


@given(
    low=st.floats(1e-3, 1e3),
    factor=st.floats(1.5, 1e6),
    share=st.floats(0, 1),
    logarithmic=st.booleans(),
)
def test_a_share_of_the_range_at_either_end_is_its_edge(low, factor, share, logarithmic):
    high = low * factor
    value = low * factor**share if logarithmic else low + share * (high - low)
    found = ends({"lambda_1": {"log_uniform" if logarithmic else "uniform": [low, high]}}, {"lambda_1": value})
    if _EDGE_SHARE + 1e-6 < share < 1 - _EDGE_SHARE - 1e-6:
        assert found == []
    elif share < _EDGE_SHARE - 1e-6:
        assert found == [("lambda_1", "low")]
    elif share > 1 - _EDGE_SHARE + 1e-6:
        assert found == [("lambda_1", "high")]


@given(values=st.lists(st.integers(1, 10**6), min_size=2, unique=True), place=st.integers(0, 10**6))
def test_of_a_list_the_smallest_and_the_largest_are_its_edges(values, place):
    value = values[place % len(values)]
    found = ends({"lambda_1": {"choice": values}}, {"lambda_1": value})
    place = sorted(values).index(value)
    expected = ["low"] if place == 0 and value > 1e-9 else ["high"] if place == len(values) - 1 else []
    assert found == [("lambda_1", end) for end in expected]


def test_the_range_is_told():
    (edge,) = found_edges({"lambda_1": {"log_uniform": [1, 10000]}}, {"lambda_1": 9876.5}, MARecConfig)
    assert edge.told == (
        "lambda_1=9876.5 is at the upper end of log_uniform [1, 10000]: a better value may lie beyond. Widen it."
    )
    assert edge_words((edge,)) == "lambda_1=9876.5 (high end of log_uniform [1, 10000])"


def test_stages_of_an_ablation_tell_what_they_chose_themselves():
    space = {
        "lambda_1": {"choice": [300, 1000, 3000]},
        "ca_weight": {"choice": [0, 1, 2]},
        "ca_temperature": {"choice": [0.2, 0.3]},
        "ua_weight": {"choice": [0, 1, 2]},
        "ua_confidence_power": {"choice": [0.1, 0.5]},
    }
    config = StudyConfig(name="a", model="marec_plus", space=space)
    chosen = {"lambda_1": 3000, "ca_weight": 2, "ca_temperature": 0.2, "ua_weight": 0, "ua_confidence_power": 0.5}
    found = [[edge.parameter for edge in _stage_edges(config, stage, chosen)] for stage in _stages()]
    assert found == [["lambda_1"], ["ca_weight", "ca_temperature"], [], []]  # what is left out has chosen nothing
