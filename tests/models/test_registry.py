"""Models are found by name, and a worker loads what its own model needs and no more."""

import subprocess
import sys

import pytest

from coldray.core.errors import ConfigError
from coldray.models.registry import MODELS, model_type


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
