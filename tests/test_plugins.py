"""A package that nobody here knows adds models, a source and a metric: tuned, bundled, loaded and served.

It is the one of docs/examples/more-recommenders, installed by pip.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from contracts.service import Client, free_port, wait_for

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[1]
STUDY = {
    "name": "added",
    "model": "attribute_regression",
    "space": {"regularization": {"choice": [0.5, 5.0]}, "n_factors": 8},
    "search": {"algorithm": "grid", "max_concurrent": 1},
    "splits": {"n_splits": 1},
    "cutoffs": [5],
    "selection": {"metric": "hit_rate@5"},
}
NOT_LOADED = """
import sys, coldray
from coldray.data.sources.registry import SOURCES
from coldray.evaluation.metrics import METRICS
from coldray.models.registry import MODELS
assert {"implicit_als", "attribute_regression"} < {*MODELS} and "events" in SOURCES and "hit_rate" in METRICS
sys.exit(any(name.startswith("more_recommenders") for name in sys.modules))
"""
BACK = """
import json, sys
import coldray
bundle = coldray.load_bundle(sys.argv[1])
lists = bundle.recommend(["u1"], k=5)
print(json.dumps([type(bundle.model).__module__, lists.height, bundle.manifest["metrics"], bundle.manifest["package"]]))
"""
CONTRACTS = """
from contracts.recommender import ClickedItemContract, ColdItemContract
from more_recommenders.attribute_regression import AttributeRegression, AttributeRegressionConfig
from more_recommenders.implicit_als import ImplicitALS, ImplicitALSConfig

class TestImplicitALS(ClickedItemContract):
    model = ImplicitALS
    config = ImplicitALSConfig(n_factors=4, regularization=1.0)

class TestAttributeRegression(ColdItemContract):
    model = AttributeRegression
    config = AttributeRegressionConfig(n_factors=4)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder to work in, with the package installed in ``site``, and another whose metric is broken."""
    root = tmp_path_factory.mktemp("plugins")
    source = shutil.copytree(ROOT / "docs" / "examples" / "more-recommenders", root / "source")
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    install = (sys.executable, "-m", "pip", "install", *options, "--target", root / "site", source)
    subprocess.run(install, check=True, timeout=120)
    facts = root / "site" / "broken_metrics-0.1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-metrics\nVersion: 0.1\n")
    (facts / "entry_points.txt").write_text("[coldray.metrics]\nsurprise = nowhere:surprise\n")
    (root / "data" / "events").mkdir(parents=True)
    write_events(root / "data" / "events")
    return root


def write_events(folder):
    """Sixty items of six genres; a user clicks items of one."""
    clicks = [{"user": f"u{user}", "item": item} for user in range(90) for item in range(user % 6, 60, 6)]
    kept = [click for number, click in enumerate(clicks) if number % 5]
    catalogue = [{"item": item, "genres": [f"genre {item % 6}", "all"]} for item in range(60)]
    for name, rows in (("events.jsonl", kept), ("catalogue.jsonl", catalogue)):
        (folder / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def environment(*paths):
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "RAY_ADDRESS": ""}


def run(place, *command, with_package=True, status=0):
    paths = (place / "site",) if with_package else ()
    finished = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=place,
        env=environment(*paths, ROOT / "tests"),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert finished.returncode == status, finished.stdout + finished.stderr
    return finished.stdout + finished.stderr


@pytest.fixture(scope="module")
def tuned(place):
    """Return what a study of the added model, source and metric printed, and its bundle."""
    (place / "study.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    data = ("--dataset", "events", "--data-dir", place / "data")
    printed = run(place, ROOT / "jobs" / "tune_marec.py", "--study", "study.yaml", *data, "--cpus", 2)
    (bundle,) = place.glob("runs/*/bundle")
    return printed, bundle


def test_it_is_listed_and_not_loaded(place):
    run(place, "-c", NOT_LOADED)
    printed = run(place, "-c", "from coldray.command.app import main; main(['datasets']), main(['models'])")
    assert "more-recommenders" in printed
    assert "implicit_als" in printed


def test_its_model_source_and_metric_go_through_a_study_to_a_bundle_and_back(place, tuned):
    printed, bundle = tuned
    assert "hit_rate@5" in printed
    (place / "back.py").write_text(BACK, encoding="utf-8")
    module, n_items, metrics, package = json.loads(run(place, "back.py", bundle))
    assert (module, n_items) == ("more_recommenders.attribute_regression", 5)
    assert 0 < metrics["ndcg@5"] <= metrics["hit_rate@5"] <= 1
    assert package == "more-recommenders 1.0"


def test_a_metric_of_a_broken_package_is_told_and_left_out(tuned):
    printed = " ".join(tuned[0].split())
    assert "note: The metric 'surprise' of broken-metrics 0.1 (entry point surprise = nowhere:surprise" in printed


def test_what_is_registered_says_which_package_it_needs(place, tuned):
    (requirements,) = place.glob("mlartifacts/**/requirements.txt")
    assert "more-recommenders==1.0" in requirements.read_text().split()


def test_where_the_package_is_not_installed_the_bundle_names_it(place, tuned):
    printed = run(place, "back.py", tuned[1], with_package=False, status=1)
    assert "its model 'attribute_regression' is of more-recommenders 1.0" in printed
    assert "pip install more-recommenders==1.0" in printed


def test_its_model_is_served(place, tuned):
    port = free_port()
    command = [sys.executable, str(ROOT / "jobs" / "serve.py"), "--bundle", str(tuned[1]), "--port", str(port)]
    with (
        (place / "service.txt").open("w") as log,
        subprocess.Popen(
            [*command, "--cpus", "2"], cwd=place, env=environment(place / "site"), stdout=log, stderr=log
        ) as service,
    ):
        ask = Client(f"http://127.0.0.1:{port}")
        try:
            wait_for(lambda: answers(ask, service), seconds=120)
            item = {"item_id": 9001, "attributes": {"genres": ["genre 1", "all"]}}
            status, answer = ask("/v1/items", item)
            assert status in (200, 201), answer
            found = ask.items(history=[1, 7, 13], k=60)
            assert 9001 in found[:10]
        finally:
            service.send_signal(signal.SIGINT)


def answers(ask, service):
    assert service.poll() is None, "the service has ended"
    try:
        return ask("/ready")[0] == 200
    except (OSError, ValueError):  # Ray Serve answers by itself, and in other words, before the service does
        return False


def test_its_models_keep_the_contracts(place):
    (place / "test_contracts.py").write_text(CONTRACTS, encoding="utf-8")
    options = ("-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", place)
    printed = run(place, "-m", "pytest", *options, "test_contracts.py")
    passed = int(printed.split(" passed")[0].rpartition("\n")[2].split()[-1])
    assert passed > 50
