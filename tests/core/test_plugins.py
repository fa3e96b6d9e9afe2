"""What other packages add is found by entry points, and what is wrong with it names the package and the entry point."""

import sys

import pytest

from coldray.core.errors import PluginError
from coldray.core.plugins import Plugins, plugin_packages
from coldray.data.sources import registry as sources
from coldray.evaluation import metrics
from coldray.models import registry as models
from coldray.models.linear.ease import EASE

MODULE = """
from typing import ClassVar
from pydantic import PositiveInt
from coldray.data.sources.registry import SOURCES
from coldray.models.base import ModelConfig, Recommender
from coldray.models.linear.ease import EASE

class Good(EASE):
    name: ClassVar[str] = "good"

class Unfinished(Recommender):
    name: ClassVar[str] = "unfinished"

class Demanding(ModelConfig):
    needed: PositiveInt

class WithoutDefault(EASE):
    name: ClassVar[str] = "without_default"
    config_type = Demanding

class WithoutOptions(EASE):
    name: ClassVar[str] = "without_options"

    def fit(self, train, computations=None):
        return self

class WithoutConfig(EASE):
    name: ClassVar[str] = "without_config"
    config_type = dict

SOURCE = SOURCES["sample"]

def metric(hits, cutoffs):
    return {}
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put packages on the path as pip does: modules, and a folder of facts about each."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "added_things.py").write_text(MODULE)
    (tmp_path / "broken_things.py").write_text("import a_package_that_is_not_there")

    def add(package, kind, name, value):
        facts = tmp_path / f"{package.replace('-', '_')}-1.5.dist-info"
        facts.mkdir(exist_ok=True)
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
        points = facts / "entry_points.txt"
        before = points.read_text() if points.exists() else ""
        points.write_text(f"{before}[coldray.{kind}s]\n{name} = {value}\n")

    yield add
    for name in ("added_things", "broken_things"):
        sys.modules.pop(name, None)


def listed(kind, own=()):
    """Return the list of a kind as a process makes it that begins now."""
    fault = {"model": models._fault, "metric": metrics._fault, "source": sources.SOURCES._fault}[kind]
    return Plugins(kind, dict(own), fault)


@pytest.mark.parametrize(
    ("kind", "name", "thing"), [("model", "good", "Good"), ("source", "s", "SOURCE"), ("metric", "m", "metric")]
)
def test_what_is_added_is_listed_without_being_loaded_and_then_used(install, kind, name, thing):
    install("more-things", kind, name, f"added_things:{thing}")
    found = listed(kind, {"own": EASE})
    assert (list(found), len(found), name in found) == (["own", name], 2, True)
    assert found.package_of(name) == "more-things 1.5"
    assert "added_things" not in sys.modules
    assert found[name] is getattr(sys.modules["added_things"], thing)
    assert (found["own"], found.package_of("own")) == (EASE, "")
    assert plugin_packages()["more-things"] == "1.5"


@pytest.mark.parametrize(
    ("kind", "name", "value", "reason"),
    [
        ("model", "m", "broken_things:Model", "ModuleNotFoundError: No module named 'a_package_that_is_not_there'"),
        ("model", "m", "added_things:Missing", "AttributeError: .*Missing"),
        ("model", "m", "added_things:SOURCE", "it is no subclass of coldray.models.base.Recommender"),
        ("model", "unfinished", "added_things:Unfinished", "it does not implement fit, from_state, n_items"),
        ("model", "better", "added_things:Good", "it calls itself 'good'"),
        ("model", "without_default", "added_things:WithoutDefault", "no valid default of its parameter 'needed'"),
        ("model", "without_options", "added_things:WithoutOptions", "has a fit without `options`"),
        ("model", "without_config", "added_things:WithoutConfig", "has no `config_type`"),
        ("source", "s", "added_things:Good", "it is no coldray.data.sources.registry.Source"),
        ("metric", "m", "added_things:SOURCE", "it is no function of hits and cutoffs"),
        ("metric", "m@5", "added_things:metric", "it needs a name of letters, digits and '_'"),
        ("metric", "coverage", "added_things:metric", "it needs a name of letters, digits and '_' that is not"),
    ],
)
def test_what_cannot_be_used_names_its_package_and_entry_point_and_leaves_the_others(
    install, kind, name, value, reason
):
    install("bad-things", kind, name, value)
    found = listed(kind, {"own": EASE})
    with pytest.raises(PluginError, match=reason) as raised:
        found[name]
    origin = f"of bad-things 1.5 (entry point {name} = {value} of coldray.{kind}s)"
    assert origin in str(raised.value)
    assert "uninstall the package" in str(raised.value)
    usable, faults = found.usable
    assert (dict(usable), faults) == ({"own": EASE}, [str(raised.value)])


def test_a_name_of_our_own_that_is_taken_means_neither(install):
    """To choose one would give who asks a model that they do not mean."""
    install("bad-things", "model", "ease", "added_things:Good")
    found = listed("model", {"ease": EASE})
    taken = r"'ease' of bad-things 1\.5 .* takes a name that coldray itself has, too\. Give it another name"
    with pytest.raises(PluginError, match=taken):
        found["ease"]
    with pytest.raises(PluginError, match=taken):
        _ = found.usable


def test_a_name_that_two_packages_add_means_neither(install):
    install("bad-things", "metric", "m", "added_things:metric")
    install("worse-things", "metric", "m", "added_things:metric")
    found = listed("metric", {"own": len})
    with pytest.raises(PluginError, match=r"takes a name that (bad|worse)-things 1\.5 has, too"):
        found["m"]
    assert list(found.usable[0]) == ["own"]


def test_an_unknown_name_is_no_name(install):
    install("more-things", "model", "good", "added_things:Good")
    found = listed("model")
    assert "goods" not in found
    with pytest.raises(KeyError):
        found["goods"]
