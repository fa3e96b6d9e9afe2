"""A model, a source, a metric and an encoder are each code of their own and a line where their kind is listed.

A copy of the package gets one of each, and goes with them through a study to a bundle and back.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[1]
MODEL = '''
from typing import ClassVar

import numpy as np
from pydantic import NonNegativeFloat

from coldray.core.errors import DataError
from coldray.models.base import ModelConfig
from coldray.models.state import ArrayModel
from coldray.training.options import FitOptions


class CoClicksConfig(ModelConfig):
    damping: NonNegativeFloat = 1.0
    """Clicks that every item has more."""


class CoClicks(ArrayModel[CoClicksConfig]):
    name: ClassVar[str] = "co_clicks"
    config_type: ClassVar[type[CoClicksConfig]] = CoClicksConfig
    item_array: ClassVar[str] = "weights"

    def fit(self, train, computations=None, options=FitOptions()):
        self.check_options(options)
        clicks = train.interactions
        if clicks.nnz == 0:
            raise DataError("No item has a click.")
        self.check_size(*clicks.shape)
        weights = (clicks.T @ clicks).toarray()
        np.fill_diagonal(weights, 0)
        self._state = {"weights": (weights / (train.clicks + self.config.damping)).astype(np.float32)}
        return self

    def memory_bytes(self, n_users, n_items):
        return 12 * n_items**2

    def scorer(self, items):
        self.check_fitted()
        weights = self._state["weights"][:, items]
        return lambda histories: np.asarray(histories @ weights, np.float32)
'''
CONTRACT = """
from coldray.models.neighbours.co_clicks import CoClicks, CoClicksConfig
from contracts.recommender import ClickedItemContract


class TestCoClicks(ClickedItemContract):
    model = CoClicks
    config = CoClicksConfig(damping=2.0)
"""
SOURCE = '''
from dataclasses import replace

from coldray.data.sources.sample import sample_dataset


def read_lines(path):
    """Return what a file says: how many users and items there are to be."""
    return replace(sample_dataset(3, *map(int, (path / "sizes.txt").read_text().split())), name="lines")
'''
METRIC = """
def _first(hits: Hits, cutoffs: Sequence[int]) -> dict[int, Doubles]:
    return {k: hits.flags[:, 0].astype(np.float64) for k in cutoffs}


"""
STUDY = {
    "name": "added",
    "model": "co_clicks",
    "space": {"damping": {"choice": [0.5, 5.0]}},
    "search": {"algorithm": "grid", "max_concurrent": 1},
    "splits": {"protocol": "holdout", "n_splits": 1},
    "candidates": "all",
    "cutoffs": [5],
    "selection": {"metric": "first@5"},
}
BACK = """
import json, sys
from pathlib import Path
from coldray.bundle.io import load_bundle

bundle = load_bundle(Path(sys.argv[1]))
((_, places),) = bundle.lists([bundle.history("user-0001")], 5)
print(json.dumps([type(bundle.model).__name__, len(places), bundle.manifest["metrics"], bundle.manifest["dataset"]]))
"""


ENCODED = """
import coldray

films = coldray.load_dataset("sample")
features = {"attributes": ["title"], "text": {"title": "trigrams"}}
bundle = coldray.load_bundle(coldray.fit("content_knn", films, features=features).save("trigrams"))
bundle = bundle.add_items({"new-1": {"title": films.attributes["title"].texts[0]}})
(feature,) = bundle.features.features.values()
print(feature.matrix.shape, abs(feature.matrix[[-1]] - feature.matrix[[0]]).max())
"""


def add(path, text, before):
    """Put one line, or one function, before a line of a file."""
    old = path.read_text(encoding="utf-8")
    assert old.count(before) == 1
    path.write_text(old.replace(before, text + before), encoding="utf-8")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Return a folder with a copy of the package to which three things were added."""
    root = tmp_path_factory.mktemp("added")
    copy = root / "platform" / "coldray"
    shutil.copytree(ROOT / "platform" / "coldray", copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "models" / "neighbours" / "co_clicks.py").write_text(MODEL, encoding="utf-8")
    add(copy / "models" / "registry.py", '    "co_clicks": "neighbours.co_clicks:CoClicks",\n', '    "svd": ')
    (copy / "data" / "sources" / "lines.py").write_text(SOURCE, encoding="utf-8")
    sources = copy / "data" / "sources" / "registry.py"
    add(sources, "from coldray.data.sources.lines import read_lines\n", "from coldray.data.sources.locations import ")
    line = '    "lines": _found(read_lines, Location("lines", "lines", "sizes.txt", "sizes.txt")),\n'
    add(sources, line, '    "lastfm": ')
    metrics = copy / "evaluation" / "metrics.py"
    add(metrics, METRIC, "METRICS: Plugins[")
    add(metrics, '        "first": _first,\n', '        "mrr": _mrr,\n')
    shutil.copy(ROOT / "docs" / "examples" / "trigrams.py", copy / "features")
    builder = copy / "features" / "builder.py"
    add(builder, "from coldray.features.trigrams import TrigramEncoder\n", "\nlogger = ")
    line = '    "trigrams": _Method(TrigramEncoder, "text", lambda _: TrigramEncoder()),\n'
    add(builder, line, '    "scalar": ')
    add(builder, '"trigrams", ', '"embedding"]] = Field(')
    return root


def run(package, *command):
    paths = os.pathsep.join([str(package / "platform"), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": paths, "RAY_ADDRESS": "", "COLDRAY_DATA": str(package / "data")}
    finished = subprocess.run(
        [sys.executable, *map(str, command)], cwd=package, env=environment, capture_output=True, text=True, timeout=280
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_what_was_added_goes_through_a_study_to_a_bundle_and_back(package):
    (package / "data" / "lines").mkdir(parents=True)
    (package / "data" / "lines" / "sizes.txt").write_text("80 60\n")
    (package / "study.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    (package / "jobs").mkdir()
    job = shutil.copy(ROOT / "jobs" / "tune_marec.py", package / "jobs")
    printed = run(package, job, "--study", "study.yaml", "--dataset", "lines", "--offline", "--cpus", 2)
    assert "first@5" in printed
    (bundle,) = package.glob("runs/*/bundle")
    report = (bundle.parent / "report.html").read_text(encoding="utf-8")
    assert all(name in report for name in ("co_clicks", "lines", "first@5"))
    (package / "back.py").write_text(BACK, encoding="utf-8")
    model, n_items, metrics, dataset = yaml.safe_load(run(package, "back.py", bundle))
    assert (model, n_items) == ("CoClicks", 5)
    assert 0 < metrics["first@5"] <= metrics["mrr@5"]
    assert (dataset["name"], dataset["n_users"]) == ("lines", 80)


def test_the_model_is_under_the_contract_by_one_class(package):
    (package / "test_co_clicks.py").write_text(CONTRACT, encoding="utf-8")
    options = ("-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", package)
    printed = run(package, "-m", "pytest", *options, "test_co_clicks.py")
    passed = int(printed.split(" passed")[0].rpartition("\n")[2].split()[-1])
    assert passed > 10


def test_an_encoder_that_was_added_encodes_what_a_bundle_has_and_what_comes_later(package):
    (package / "encoded.py").write_text(ENCODED, encoding="utf-8")
    assert run(package, "encoded.py").split() == ["(501,", "4096)", "0.0"]


def test_what_was_added_is_in_every_list(package):
    """Options, and what a study is told of a name that is not known, come from the same lines."""
    assert "\n lines " in run(package, "-m", "coldray", "datasets")
