"""A study file becomes domains, a search algorithm and a scheduler of Ray Tune."""

import optuna
import pytest
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter
from ray.tune.search.sample import Categorical, Float, Integer
from ray.tune.search.variant_generator import generate_variants

from coldray.errors import ConfigError
from coldray.tuning.search import STARTUP_TRIALS, scheduler, search_algorithm, search_space
from coldray.tuning.space import StudyConfig, grid_points

SPACE = {
    "lambda_1": {"log_uniform": [1, 100]},
    "beta": {"uniform": [2, 5]},
    "order": {"int_uniform": [1, 2]},
    "learner": {"choice": ["regression", "nonnegative"]},
    "alpha": 1.0,
}


def study(algorithm="random", space=None, **fields):
    return StudyConfig.model_validate(
        {
            "name": "s",
            "model": "marec",
            "space": space or SPACE,
            **fields,
            "search": {"algorithm": algorithm, **fields.get("search", {})},
        }
    )


def test_each_range_becomes_its_domain_with_both_ends():
    domains = search_space(study())
    assert isinstance(domains["lambda_1"], Float)
    assert (domains["lambda_1"].lower, domains["lambda_1"].upper) == (1, 100)
    assert type(domains["lambda_1"].get_sampler()).__name__ == "_LogUniform"
    assert isinstance(domains["beta"], Float)
    assert type(domains["beta"].get_sampler()).__name__ == "_Uniform"
    assert isinstance(domains["order"], Integer)
    assert {domains["order"].sample() for _ in range(60)} == {1, 2}
    assert isinstance(domains["learner"], Categorical)
    assert domains["learner"].categories == ["regression", "nonnegative"]
    assert domains["alpha"] == 1.0


def test_a_grid_lists_each_of_its_points_once():
    space = {"order": {"choice": [1, 2]}, "delta": {"choice": [5.0, 20.0]}, "alpha": 2.0}
    variants = [spec for _, spec in generate_variants(search_space(study("grid", space)))]
    assert len(variants) == 4
    assert sorted(map(str, variants)) == sorted(map(str, grid_points(space)))


@pytest.mark.parametrize("algorithm", ["optuna", "random", "grid"])
def test_fixed_values_alone_are_one_configuration(algorithm):
    config = study(algorithm, {"order": 1, "delta": {"genres": 5.0}})
    assert config.n_trials == 1
    assert isinstance(search_algorithm(config), BasicVariantGenerator)  # Optuna refuses a space without a range
    assert [spec for _, spec in generate_variants(search_space(config))] == [config.space]


def test_optuna_works_in_batches_with_its_own_seed():
    limiter = search_algorithm(study("optuna", search={"seed": 7, "trials": 40, "max_concurrent": 3}))
    assert isinstance(limiter, ConcurrencyLimiter)
    assert limiter.max_concurrent == 3
    assert limiter.batch is True
    sampler = limiter.searcher._sampler
    assert isinstance(sampler, optuna.samplers.TPESampler)
    assert sampler._n_startup_trials == STARTUP_TRIALS
    assert limiter.searcher.metric == "ndcg@10"
    assert limiter.searcher.mode == "max"


@pytest.mark.parametrize("algorithm", ["random", "grid"])
def test_random_and_grid_are_ray_tunes_own(algorithm):
    space = {"order": {"choice": [1, 2]}}
    generator = search_algorithm(study(algorithm, space, search={"max_concurrent": 3}))
    assert isinstance(generator, BasicVariantGenerator)
    assert generator.max_concurrent == 3


def proposals(seed, count=8):
    """Return what Optuna proposes in batches of two when the metric is that of λ₁."""
    limiter = search_algorithm(study("optuna", search={"seed": seed, "trials": count, "max_concurrent": 2}))
    limiter.set_search_properties("ndcg@10", "max", search_space(study("optuna")))
    found = []
    for start in range(0, count, 2):
        batch = [(f"t{start + i}", limiter.suggest(f"t{start + i}")) for i in range(2)]
        for name, config in batch:
            found.append(config)
            limiter.on_trial_complete(name, {"ndcg@10": 1 / config["lambda_1"]})
    return found


def test_the_seed_decides_what_optuna_proposes():
    assert proposals(1) == proposals(1)
    assert proposals(1) != proposals(2)


def test_pruning_is_asked_for_in_the_study_file():
    assert isinstance(scheduler(study(), 6), FIFOScheduler)
    asha = scheduler(study(scheduler={"grace_splits": 2, "reduction_factor": 4}), 6)
    assert isinstance(asha, ASHAScheduler)
    assert asha._max_t == 6
    assert asha._reduction_factor == 4
    assert asha.metric == "ndcg@10"
    assert asha._time_attr == "splits_done"
    assert sorted(rung for rung, _ in asha._brackets[0]._rungs) == [2]


def test_one_split_cannot_be_pruned():
    assert isinstance(scheduler(study(scheduler={"grace_splits": 1}), 1), FIFOScheduler)


def test_more_grace_than_splits_prunes_nothing():
    asha = scheduler(study(scheduler={"grace_splits": 9}), 3)
    assert asha._max_t == 3


def test_the_first_configurations_are_tried_before_any_proposal():
    first = [{"beta": 3.0, "learner": "regression", "order": 1, "lambda_1": 7.0}, {"beta": 2.0}]
    config = study("optuna", search={"first": first})
    searcher = search_algorithm(config)
    searcher.set_search_properties(config.selection.metric, "max", search_space(config))
    proposed = [searcher.suggest(str(i)) for i in range(3)]
    defaults = {"lambda_1": 1.0, "order": 2, "learner": "regression"}
    for found, expected in zip(proposed, ({**first[0]}, {**defaults, "beta": 2.0}), strict=False):
        assert {name: found[name] for name in expected} == expected
    assert proposed[2]["beta"] not in (2.0, 3.0)


@pytest.mark.parametrize(
    ("algorithm", "first", "expected"),
    [
        ("optuna", [{"beta": 9.0}], r"beta=9\.0 is outside of uniform \[2, 5\]"),
        ("optuna", [{"learner": "correlation", "beta": 3.0}], r"learner='correlation' is outside of choice"),
        ("optuna", [{"bta": 3.0}], r"search\.first: bta.*beta"),
        ("random", [{"beta": 3.0}], r"random has an order of its own"),
    ],
)
def test_first_configurations_that_cannot_be_proposed_are_refused(algorithm, first, expected):
    with pytest.raises(ConfigError, match=expected):
        study(algorithm, search={"first": first})


def test_a_first_value_of_a_parameter_that_is_fixed_gives_way():
    space = {**SPACE, "beta": 4.0}
    config = study("optuna", space, search={"first": [{"beta": 3.0, "order": 1}]})
    assert config.first_points[0].keys() == {"lambda_1", "order", "learner"}
