"""Study files: what is valid, and what a bad one is told."""

import copy
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from coldray.core.errors import ConfigError
from coldray.evaluation.metrics import metric_names
from coldray.experiments.space import (
    StudyConfig,
    current_settings,
    grid_points,
    is_range,
    listed_values,
    load_study,
)
from coldray.models.marec.config import MARecConfig
from coldray.models.registry import model_type
from coldray.training.options import FitConfig

STUDIES = Path(__file__).parents[2] / "tune_spaces"
GOOD = {
    "name": "small",
    "model": "marec",
    "space": {"lambda_1": {"log_uniform": [1, 100]}, "order": 1, "delta": {"choice": [5, 20]}},
    "search": {"algorithm": "random", "trials": 4},
    "splits": {"n_splits": 2},
    "cutoffs": [5, 10],
    "selection": {"metric": "ndcg@10", "simplest": [{"order": "low"}]},
}


def changed(dotted, value):
    """Return the good study with one field replaced, added, or (``...``) left out."""
    content = copy.deepcopy(GOOD)
    *sections, last = dotted.split("/")
    target = content
    for section in sections:
        target = target.setdefault(section, {})
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return content


def written(tmp_path, content):
    path = tmp_path / "study.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


COMPARISONS = {
    "coldstart", "compare_models", "compare_cold", "compare_published", "compare_recsys_cold", "compare_warming",
    "compare_newcomers", "compare_ratings",
}  # fmt: skip
STUDY_FILES = [path for path in sorted(STUDIES.glob("*.yaml")) if path.stem not in COMPARISONS]


@pytest.mark.parametrize("path", STUDY_FILES, ids=lambda path: path.name)
def test_the_study_files_of_the_platform_are_valid(path):
    config = load_study(path)
    assert config.searched
    assert config.n_trials > 0
    assert config.name == path.stem


def test_the_study_of_neighbours_searches_both_kinds():
    overrides = {"name": "user_knn", "model": "user_knn"}
    configs = [load_study(STUDIES / "knn.yaml", chosen) for chosen in ({}, overrides)]
    assert [config.model for config in configs] == ["item_knn", "user_knn"]
    for config in configs:
        assert set(config.space) <= set(model_type(config.model).config_type.model_fields)
    assert configs[0].space == configs[1].space


def test_a_study_file_may_name_the_seed_as_it_was_called_earlier():
    config = load_study(STUDIES / "vae.yaml", {"space": {"train_seed": 3, "epochs": 2}})
    assert config.space == {"seed": 3, "epochs": 2}


EARLIER = {
    "name": "earlier",
    "model": "ease",
    "space": {"regularization": {"choice": [1.0, 2.0]}, "workers": 2, "device": "cpu"},
    "splits": {"protocol": "holdout"},
    "candidates": "all",
}


def test_how_a_fit_runs_is_refused_in_the_space_with_its_place():
    with pytest.raises(ConfigError, match=r"space\.workers says how a fit runs .* Write fit: \{workers: …\}"):
        StudyConfig.model_validate(EARLIER)
    with pytest.raises(ConfigError, match=r"space\.use_gpu says how .* Write fit: \{device: cuda\}"):
        StudyConfig.model_validate({**EARLIER, "model": "vae", "space": {"epochs": 1, "use_gpu": True}})


def test_an_option_that_the_model_would_not_heed_is_refused():
    study = {**EARLIER, "space": {"regularization": 1.0}}
    assert StudyConfig.model_validate({**study, "fit": {"workers": 2}}).fit == FitConfig(workers=2)
    with pytest.raises(ConfigError, match=r"precision='float16' .* 'ease' heeds"):
        StudyConfig.model_validate({**study, "fit": {"precision": "float16"}})
    with pytest.raises(ConfigError, match=r"workers=2 count .* Use workers=1, or solver='exact'"):
        StudyConfig.model_validate({**study, "fit": {"workers": 2}, "space": {"solver": "blocks"}})
    with pytest.raises(ValidationError, match="listener"):
        StudyConfig.model_validate({**study, "fit": {"listener": None}})


def test_what_an_earlier_version_recorded_of_a_study_is_what_is_written_now():
    written = StudyConfig.model_validate(
        {**EARLIER, "space": {"regularization": {"choice": [1.0, 2.0]}}, "fit": {"workers": 2, "device": "cpu"}}
    ).model_dump(mode="json")
    earlier = {name: value for name, value in written.items() if name != "fit"} | {"space": EARLIER["space"]}
    assert json.dumps(current_settings(earlier)) == json.dumps(written)
    assert current_settings(written) == written
    assert current_settings({"comparison": {}, "entries": {"a": earlier}})["entries"] == {"a": written}
    network = {"model": "vae", "space": {"epochs": 1, "use_gpu": True, "learning_rate": {"choice": [0.1]}}}
    found = current_settings(network)
    assert found["space"] == {"epochs": 1, "learning_rate": {"choice": [0.1]}}
    assert found["fit"]["device"] == "cuda"


def test_a_name_given_twice_is_refused_not_read_as_the_last(tmp_path):
    text = yaml.safe_dump(GOOD).replace("search:\n", "search:\n  trials: 9\n")
    with pytest.raises(ConfigError, match=r"study\.yaml: 'trials' is given twice"):
        load_study(written(tmp_path, text))


def test_the_published_study_searches_the_whole_space_of_the_model():
    config = load_study(STUDIES / "marec.yaml")
    of_blocks = {"block_items", "learning_items", "seed"}
    assert set(config.space) == set(MARecConfig.model_fields) - {"solver", "cold_weight", *of_blocks}
    assert config.searched == ("lambda_1", "lambda_0", "beta", "delta", "w0", "order", "learner")  # αβ alone matters


@pytest.mark.parametrize("name", ["carec", "uarec", "gerec", "marec_plus"])
def test_the_studies_of_learned_models_name_only_what_the_model_has(name):
    config = load_study(STUDIES / f"{name}.yaml")
    fields = set(model_type(name).config_type.model_fields)
    assert config.model == name
    assert set(config.space) <= fields
    assert {parameter for entry in config.selection.simplest for parameter in entry} <= fields
    assert {field for field in fields if field.startswith(("ca_", "ua_", "ge_"))} <= set(config.space)
    misspelt = {**config.space, "hidden_dimension": 64}
    with pytest.raises(ConfigError, match=r"hidden_dimension.*Did you mean 'hidden_dim'"):
        load_study(STUDIES / f"{name}.yaml", {"space": misspelt})


BAD = {
    "misspelt field": (changed("serach", {}), ["'serach'", "Did you mean 'search'?"]),
    "misspelt nested field": (changed("search/trails", 3), ["'search.trails'", "Did you mean 'trials'?"]),
    "misspelt field of an optional section": (
        changed("scheduler/grace_split", 3),
        ["'scheduler.grace_split'", "Did you mean 'grace_splits'?"],
    ),
    "misspelt filter": (
        changed("filters/min_user_interaction", 3),
        ["'filters.min_user_interaction'", "'min_user_interactions'"],
    ),
    "misspelt model": (changed("model", "marek"), ["'marek'", "Did you mean 'marec'?"]),
    "misspelt parameter": (changed("space/lamda_1", 3), ["space.lamda_1", "Did you mean 'lambda_1'?"]),
    "misspelt range": (changed("space/beta", {"choise": [1, 2]}), ["space.beta", "'choise'", "Did you mean 'choice'?"]),
    "misspelt algorithm": (changed("search/algorithm", "optunna"), ["search.algorithm", "'optuna'", "'optunna'"]),
    "no trials": (changed("search/trials", 0), ["search.trials", "greater than 0", "got 0"]),
    "no splits": (changed("splits/n_splits", 0), ["splits.n_splits", "greater than 0"]),
    "no seeds": (changed("splits/seeds", []), ["splits.seeds", "at least 1"]),
    "a seed listed twice": (changed("splits/seeds", [1, 7, 1]), ["splits.seeds", "1 is listed twice"]),
    "a negative seed": (changed("splits/seeds", [-1]), ["splits.seeds", "not -1"]),
    "a cutoff listed twice": (changed("cutoffs", [5, 10, 5]), ["cutoffs", "5 is listed twice"]),
    "values that exclude each other": (
        changed("space", {"lambda_1": {"log_uniform": [1, 100]}, "solver": "users", "lambda_0": 0.5}),
        ["the space has no valid configuration", "solver='users'", "lambda_0=0.5", "Use solver='items'"],
    ),
    "choices that all exclude a value": (
        changed("space", {"solver": "users", "lambda_0": {"choice": [0.5, 1.0]}, "order": {"choice": [1, 2]}}),
        ["the space has no valid configuration", "lambda_0=0.5"],
    ),
    "a range that a value excludes but for its end": (
        changed("space", {"solver": {"choice": ["users"]}, "lambda_0": {"uniform": [0, 1]}}),
        ["the space has no valid configuration", "solver='users'", "lambda_0=0.5"],
    ),
    "no cutoffs": (changed("cutoffs", []), ["cutoffs", "at least 1"]),
    "empty space": (changed("space", {}), ["space", "at least 1"]),
    "empty choice": (changed("space/beta", {"choice": []}), ["space.beta", "choice", "at least one value", "[]"]),
    "choice of a single value": (changed("space/beta", {"choice": 5}), ["space.beta", "a list", "5"]),
    "one bound": (changed("space/beta", {"uniform": [1]}), ["space.beta", "[low, high]", "[1]"]),
    "bounds swapped": (changed("space/beta", {"uniform": [5, 1]}), ["space.beta", "low < high", "[5, 1]"]),
    "bounds equal": (changed("space/beta", {"uniform": [5, 5]}), ["space.beta", "low < high", "[5, 5]"]),
    "log of zero": (changed("space/lambda_1", {"log_uniform": [0, 1]}), ["space.lambda_1", "0 < low", "[0, 1]"]),
    "infinite bound": (changed("space/beta", {"uniform": [1, float("inf")]}), ["space.beta", "finite", "inf"]),
    "text as bound": (changed("space/beta", {"uniform": [1, "many"]}), ["space.beta", "numbers", "many"]),
    "bound the model refuses": (changed("space/w0", {"uniform": [0.5, 2]}), ["space.w0", "2", "less than or equal"]),
    "fractions of a whole number": (changed("space/order", {"uniform": [1, 2]}), ["space.order", "1.38", "1 or 2"]),
    "whole numbers from a fraction": (
        changed("space/alpha", {"int_uniform": [1.5, 3]}),
        ["space.alpha", "two whole numbers", "[1.5, 3]"],
    ),
    "seed of the search": (changed("search/seed", -1), ["search.seed", "-1"]),
    "a rule that counts words": (
        changed("selection/simplest", [{"learner": "low"}]),
        ["selection.simplest: learner", "'regression' is no number"],
    ),
    "misspelt value in the rule": (
        changed("selection/simplest", [{"learner": ["regresion"]}]),
        ["selection.simplest: learner", "'regresion'"],
    ),
    "value the model refuses": (changed("space/lambda_1", -1.0), ["space.lambda_1", "-1.0", "greater than 0"]),
    "choice the model refuses": (changed("space/order", {"choice": [1, 3]}), ["space.order", "3", "1 or 2"]),
    "learner the model lacks": (changed("space/learner", {"choice": ["ridge"]}), ["space.learner", "'ridge'"]),
    "grid over a continuous range": (
        changed("search/algorithm", "grid"),
        ["space.lambda_1", "grid", "choice", "log_uniform", "random"],
    ),
    "unknown metric": (changed("selection/metric", "ndgc@10"), ["'ndgc@10'", "Did you mean 'ndcg@10'?"]),
    "metric without its cutoff": (changed("selection/metric", "ndcg@50"), ["'ndcg@50'", "not computed", "ndcg@10"]),
    "negative tolerance": (changed("selection/tolerance", -0.1), ["selection.tolerance", "-0.1"]),
    "tolerance of everything": (changed("selection/tolerance", 1), ["selection.tolerance", "less than 1"]),
    "name that leaves the output folder": (changed("name", "../up"), ["name", "'../up'"]),
    "unknown name in the rule": (
        changed("selection/simplest", [{"ordr": "low"}]),
        ["selection.simplest", "ordr", "Did you mean 'order'?"],
    ),
    "unknown preference": (changed("selection/simplest", [{"order": "least"}]), ["selection.simplest", "least"]),
    "unknown candidates": (changed("candidates", "hot"), ["candidates", "'hot'"]),
    "attribute named twice": (changed("features/attributes", ["a", "a"]), ["features.attributes", "twice", "a"]),
    "missing name": (changed("name", ...), ["'name'", "missing"]),
    "missing model": (changed("model", ...), ["'model'", "missing"]),
    "missing space": (changed("space", ...), ["'space'", "missing"]),
    "broken yaml": ("name: [unclosed", ["not valid YAML", "line 1"]),
    "a list": ("- name\n- model\n", ["must hold fields"]),
    "nothing": ("", ["must hold fields"]),
    "section that is a value": (changed("search", 5), ["search", "5"]),
    "field named by a number": ("1: 2\n" + yaml.safe_dump(GOOD), ["1"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_study_file_is_told_what_is_wrong(tmp_path, case):
    content, expected = BAD[case]
    path = written(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    message = str(caught.value)
    assert "study.yaml" in message
    for part in expected:
        assert part in message


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml: No such file"):
        load_study(tmp_path / "absent.yaml")


def test_a_folder_in_place_of_the_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"Cannot read the study file .*: Is a directory"):
        load_study(tmp_path)


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_bytes(b"name: \xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"study\.yaml"):
        load_study(path)


def test_overrides_replace_add_and_are_checked(tmp_path):
    path = written(tmp_path, GOOD)
    config = load_study(path, {"search.trials": 7, "scheduler.grace_splits": 2, "cutoffs": [3, 10]})
    assert (config.search.trials, config.search.algorithm) == (7, "random")
    assert config.scheduler.grace_splits == 2
    assert config.cutoffs == (3, 10)
    assert load_study(path).search.trials == 4
    with pytest.raises(ConfigError, match=r"'search\.trails'.*'trials'"):
        load_study(path, {"search.trails": 7})


@pytest.mark.parametrize("dotted", ["name.trials", "cutoffs.first", "space.order.low"])
def test_an_override_below_a_plain_value_is_refused(tmp_path, dotted):
    with pytest.raises(ConfigError, match=dotted.split(".")[0]):
        load_study(written(tmp_path, GOOD), {dotted: 7})


def test_an_override_fills_a_section_left_empty_in_the_file(tmp_path):
    path = written(tmp_path, yaml.safe_dump(GOOD) + "scheduler:\n")
    assert load_study(path).scheduler is None
    assert load_study(path, {"scheduler.grace_splits": 2}).scheduler.grace_splits == 2


def test_a_study_may_be_selected_by_every_metric_that_is_computed():
    names = ("hr", "ndcg", "recall", "precision", "map", "mrr", "coverage")
    assert metric_names((5, 10)) == [f"{name}@{k}" for name in names for k in (5, 10)]


def test_a_grid_takes_every_combination_once_and_keeps_fixed_values():
    space = {"order": {"choice": [1, 2]}, "beta": 3.0, "delta": {"choice": [5, 20, 50]}}
    points = grid_points(space)
    assert len(points) == 6
    assert {(point["order"], point["delta"]) for point in points} == {(o, d) for o in (1, 2) for d in (5, 20, 50)}
    assert {point["beta"] for point in points} == {3.0}
    config = StudyConfig.model_validate({**GOOD, "space": space, "search": {"algorithm": "grid", "trials": 99}})
    assert config.n_trials == 6


def test_a_mapping_value_is_no_range():
    assert not is_range({"genres": 5.0})
    assert not is_range({"genres": 5.0, "actors": 3.0})
    assert is_range({"choice": [1]})
    space = {"delta": {"genres": 5.0}, "order": {"choice": [1, 2]}}
    assert StudyConfig.model_validate({**GOOD, "space": space}).searched == ("order",)


POSITIVE = st.floats(0.01, 1e6, allow_nan=False)
VALUES = {
    "lambda_1": POSITIVE,
    "lambda_0": st.just(0.0) | POSITIVE,
    "alpha": POSITIVE,
    "beta": POSITIVE,
    "delta": POSITIVE | st.dictionaries(st.text(min_size=1), POSITIVE, min_size=2, max_size=3),
    "w0": st.floats(0.001, 1),
    "order": st.sampled_from([1, 2]),
    "learner": st.sampled_from(["regression", "nonnegative", "correlation"]),
    "solver": st.sampled_from(["auto", "items", "users", "cholesky"]),
}
SPECS = {
    name: values | st.builds(lambda listed: {"choice": listed}, st.lists(values, min_size=1, max_size=3))
    for name, values in VALUES.items()
}
SPACES = st.lists(st.sampled_from(sorted(SPECS)), min_size=1, max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: SPECS[name] for name in names})
)


@pytest.mark.parametrize(
    "space",
    [
        {"solver": "users", "lambda_0": {"choice": [0.5, 0.0]}},
        {"solver": {"choice": ["users", "items"]}, "lambda_0": 0.5},
        {"solver": {"choice": ["users", "auto"]}, "lambda_0": {"uniform": [0, 1]}},
    ],
    ids=str,
)
@pytest.mark.parametrize("algorithm", ["optuna", "random"])
def test_a_space_in_which_some_values_go_together_can_be_searched(space, algorithm):
    space = space | {"lambda_1": {"log_uniform": [1, 100]}}
    assert StudyConfig.model_validate({**GOOD, "space": space, "search": {"algorithm": algorithm}}).n_trials == 32


def test_a_space_of_too_many_combinations_is_taken_on_trust(monkeypatch):
    space = {"order": {"choice": [1, 2]}, "lambda_0": {"choice": [1.0, 0.0]}, "solver": {"choice": ["users", "items"]}}
    fixed = {**space, "solver": "users", "lambda_0": 1.0}
    monkeypatch.setattr("coldray.experiments.space._MAX_COMBINATIONS", 1)
    StudyConfig.model_validate({**GOOD, "space": space})
    StudyConfig.model_validate({**GOOD, "space": fixed})
    monkeypatch.setattr("coldray.experiments.space._MAX_COMBINATIONS", 2)
    with pytest.raises(ConfigError, match="no valid configuration"):
        StudyConfig.model_validate({**GOOD, "space": fixed})


def test_the_space_lists_its_fixed_values_and_choices():
    space = {"order": {"choice": [1, 2]}, "beta": {"uniform": [1, 2]}, "delta": {"genres": 5.0}}
    assert list(listed_values(space)) == [("order", 1), ("order", 2), ("delta", {"genres": 5.0})]


def excluded(point):
    return point.get("solver") == "users" and point.get("lambda_0", 0) > 0


def grid_of(space):
    return StudyConfig.model_validate(
        {"name": "grid", "model": "marec", "space": space, "search": {"algorithm": "grid"}}
    )


@given(SPACES)
def test_every_point_of_a_valid_grid_is_a_configuration_of_the_model(space):
    possible = [point for point in grid_points(space) if not excluded(point)]
    assume(possible)
    config = grid_of(space)
    assert len(grid_points(config.space)) == config.n_trials
    for point in possible:
        assert list(point) == list(space)
        made = MARecConfig.model_validate(point).model_dump()
        assert {name: made[name] for name in space} == point


IMPOSSIBLE = st.fixed_dictionaries(
    {"solver": st.sampled_from(["users", {"choice": ["users"]}])}
    | {"lambda_0": POSITIVE | st.builds(lambda listed: {"choice": listed}, st.lists(POSITIVE, min_size=1, max_size=3))}
)


@given(IMPOSSIBLE, SPACES)
def test_a_grid_without_a_possible_point_is_refused(impossible, space):
    space = {**space, **impossible}
    for point in grid_points(space):
        with pytest.raises(ConfigError, match="solver='users'"):
            MARecConfig.model_validate(point)
    with pytest.raises(ConfigError, match="no valid configuration"):
        grid_of(space)
