"""The memory of the largest fit of a space, against trying many of its combinations."""

import itertools
import random
from pathlib import Path

import pytest

from coldray.experiments.search.memory import largest_fit_bytes
from coldray.experiments.space import StudyConfig, is_range, load_study
from coldray.models.registry import model_type

SPACES = Path(__file__).parents[3] / "tune_spaces"
STUDIES = sorted(path for path in SPACES.glob("*.yaml") if "\nmodel: " in path.read_text(encoding="utf-8"))
SIZE = (6000, 4000)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_no_combination_of_a_shipped_space_takes_more(path):
    config = load_study(path)
    model = model_type(config.model)
    values = {name: next(iter(spec.values())) if is_range(spec) else [spec] for name, spec in config.space.items()}
    every = list(itertools.islice(itertools.product(*values.values()), 100_000))
    tried = random.Random(0).sample(every, min(len(every), 300))
    need = max(model(model.config_type(**dict(zip(values, one, strict=True)))).memory_bytes(*SIZE) for one in tried)
    assert largest_fit_bytes(config, *SIZE) >= need


def test_the_largest_fit_is_that_of_the_largest_values():
    space = {"embedding_dim": {"choice": [16, 512, 64]}, "n_layers": {"int_uniform": [1, 3]}, "batch_size": 128}
    config = StudyConfig(name="n", model="ncf", space=space, candidates="all", splits={"protocol": "holdout"})
    kind = model_type("ncf")
    largest = kind(kind.config_type(embedding_dim=512, n_layers=3, batch_size=128))
    assert largest_fit_bytes(config, *SIZE) == largest.memory_bytes(*SIZE)
    assert largest_fit_bytes(config, *SIZE) > kind(kind.config_type()).memory_bytes(*SIZE)
