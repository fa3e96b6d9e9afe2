"""Models are found by name, and a worker loads what its own model needs and no more."""

import subprocess
import sys
from contextlib import nullcontext

import pytest

from coldray.core.errors import ConfigError
from coldray.models.base import ModelConfig
from coldray.models.registry import MODELS, model_type
from coldray.training.options import FitConfig, FitOptions
from contracts.problems import random_ratings, random_training_set


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_found_by_the_name_it_has(name):
    assert model_type(name).name == name


def test_a_misspelt_name_is_answered_by_the_nearest():
    with pytest.raises(ConfigError, match=r"Unknown model 'eese'\. Did you mean 'ease'"):
        model_type("eese")


EARLIER_SEEDS = {
    "marec": {"learning_seed": 4},
    "kernel_align": {"kernel_seed": 4},
    "als": {"start_seed": 4},
    "popularity": {"forest_seed": 4},
    "mf": {"train_seed": 4},
    "marec_plus": {"learning_seed": 0, "train_seed": 4},
}


@pytest.mark.parametrize("name", MODELS)
def test_no_seed_has_a_name_of_its_own(name):
    assert [field for field in model_type(name).config_type.model_fields if "seed" in field] in ([], ["seed"])


@pytest.mark.parametrize("name", EARLIER_SEEDS)
def test_a_stored_seed_is_read_by_its_earlier_name(name):
    config = model_type(name).config_type.model_validate(EARLIER_SEEDS[name])
    assert config == model_type(name).config_type(seed=4)


OTHER_OPTIONS = FitConfig(
    workers=2,
    device="cpu",
    precision="float32",
    checkpoint_every=2,
    checkpoint_every_steps=2,
    num_to_keep=3,
    max_failures=1,
)
"""None of them is as by default."""


@pytest.mark.parametrize("option", FitConfig.model_fields)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_refuses_the_options_it_would_not_heed_and_no_others(name, option):
    value = getattr(OTHER_OPTIONS, option)
    assert value != getattr(FitConfig(), option)
    kind = model_type(name)
    model = kind(kind.config_type(**({"solver": "blocks"} if name == "marec" else {})))
    refused = pytest.raises(ConfigError, match=rf"{option}={value!r} .*{name}' heeds")
    with nullcontext() if option in kind.fit_options else refused:
        model.check_options(FitConfig(**{option: value}))


@pytest.mark.parametrize("name", ["ease", "als", "svd", "marec", "kernel_align", "item_knn", "user_knn", "content_knn"])
def test_a_fit_begins_with_its_options(name):
    with pytest.raises(ConfigError, match=f"precision='float16' says how a fit runs, and the model '{name}'"):
        model_type(name)().fit(random_training_set(0), options=FitOptions(precision="float16"))


@pytest.mark.parametrize("name", ["popularity", "rating_knn", "rating_svd"])
def test_a_fit_of_ratings_begins_with_its_options(name):
    with pytest.raises(ConfigError, match="num_to_keep=3 says how a fit runs"):
        model_type(name)().fit(random_ratings(0), options=FitOptions(num_to_keep=3))


@pytest.mark.parametrize("name", MODELS)
def test_what_says_how_a_fit_runs_is_no_parameter(name):
    config_type = model_type(name).config_type
    assert not {*FitConfig.model_fields, "use_gpu"} & {*config_type.model_fields}
    with pytest.raises(ConfigError, match=r"workers says how a fit runs .* Write fit: \{workers: …\}"):
        config_type(workers=2)


@pytest.mark.parametrize("name", MODELS)
def test_what_a_configuration_held_earlier_is_left_out_of_a_stored_one(name):
    config_type = model_type(name).config_type
    earlier = {**config_type().model_dump(), "workers": 2, "use_gpu": True, "device": "cuda", "precision": "float16"}
    assert config_type.model_validate(config_type.stored(earlier)) == config_type()


def test_a_parameter_of_that_name_stays_one():
    class OwnConfig(ModelConfig):
        device: str = "a phone"

    assert OwnConfig(device="a watch").device == "a watch"
    assert OwnConfig.stored({"device": "a watch", "workers": 2}) == {"device": "a watch"}


@pytest.mark.parametrize("module", ["experiments.search.trial", "experiments.winner", "experiments.folds"])
def test_a_worker_of_a_model_without_networks_starts_without_torch(module):
    """torch takes two seconds of each worker; lists are made with it, by then it has been loaded aside."""
    program = (
        f"import sys, coldray.{module}\n"
        "from coldray.models.registry import model_type\n"
        "from coldray.core.device import resolve_device\n"
        "model_type('ease'), model_type('svd'), model_type('item_knn'), resolve_device('cpu')\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
