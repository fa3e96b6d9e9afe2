"""A study decides once in which form it fits its model, by the largest of its fits, and every fit takes that one."""

import re
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from coldray.bundle.fitting import fit_bundle
from coldray.bundle.io import save_bundle
from coldray.cli.jobs.tune import bundle_manifest
from coldray.core.errors import CatalogTooLargeError, ConfigError
from coldray.core.memory import _FIT_SHARE
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.comparison.config import Comparison, ComparisonConfig, Entry
from coldray.experiments.comparison.run import check_comparison, comparison_protocol, run_comparison
from coldray.experiments.folds import prepare_task
from coldray.experiments.forms import loss as form_loss
from coldray.experiments.forms.settled import Settled, _distinct_values, _outlook_of, _settle, settled_study
from coldray.experiments.listeners import StudyListener
from coldray.experiments.record.record import StudyRecord
from coldray.experiments.space import SearchConfig, StudyConfig
from coldray.experiments.study import draw_splits, prepare_study, run_study
from coldray.features.builder import FeatureEncoder
from coldray.models.base import TrainingSet
from coldray.models.forms import Form, StudyOutlook
from coldray.models.kernel_align.model import KernelAlign
from coldray.models.linear.ease import _BYTES_PER_PAIR, EASE, EASEConfig
from coldray.models.marec.model import MARec
from coldray.models.registry import model_type
from coldray.reports.console import terminal
from coldray.reports.export import page
from coldray.reports.study.report import study_report
from coldray.training.options import FitConfig

HOLDOUT = {"protocol": "holdout", "n_splits": 1}
GRID = SearchConfig(algorithm="grid", max_concurrent=1)
GIB = 2**30


def study(model="ease", space=None, **fields):
    base = {"name": "forms", "model": model, "candidates": "all", "cutoffs": [5, 10], "splits": HOLDOUT}
    return StudyConfig.model_validate({**base, "space": space or {"regularization": 100.0}, **fields})


@pytest.fixture(scope="module")
def dataset():
    return sample_dataset(0, 120, 100)


class Told(StudyListener):
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def stage(self, message):
        self.lines.append(message)

    def study_started(self, config, dataset, study_id, protocol):
        self.lines.append(protocol.get("form", ""))


LARGE = 2**20
"""Bytes of the exact form a pair of items: on a small catalogue blocks would need more."""


def memory_for(n_items):
    """Return free memory in which the form of a fit on so many items is exact, and on one more is not."""
    return int(np.ceil(LARGE * n_items**2 / _FIT_SHARE))


@pytest.fixture
def large(monkeypatch):
    """Let the exact form of EASE need a lot, and return a function that sets what is free."""
    monkeypatch.setattr("coldray.models.linear.ease._BYTES_PER_PAIR", LARGE)
    return lambda free: monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: free)


@given(st.integers(2, 10**6), st.integers(2**20, 2**45), st.integers(1, 4))
def test_the_form_is_exact_wherever_it_fits_and_is_told_with_the_sizes(n_items, memory, workers):
    config, (form,) = EASE.settle(EASEConfig(), StudyOutlook(1000, n_items, memory, options=FitConfig(workers=workers)))
    fits = _BYTES_PER_PAIR * n_items**2 <= memory
    smaller = EASE(EASEConfig(solver="blocks")).memory_bytes(1000, n_items) < _BYTES_PER_PAIR * n_items**2
    assert config.solver == form.value
    assert form.exact == (form.value == "exact")
    assert "needs 0.0 " not in form.reason
    if workers > 1:
        assert form.exact  # what several workers count is exact; one that does not fit is refused
    elif not fits and smaller:
        assert form.value == "blocks"
        assert f"of {memory / GIB:,.1f} GiB of memory" in form.reason
    elif n_items < 20_000:
        assert form.value == "exact"
    assert f"{n_items:,} items" in form.told or workers > 1


def test_a_decomposition_of_hours_is_not_begun():
    _, (form,) = EASE.settle(EASEConfig(), StudyOutlook(1000, 500_000, 2**50))
    assert form.value == "blocks"
    assert "h for each fit in exact form" in form.reason


@pytest.mark.usefixtures("large")
def test_the_space_of_the_study_is_settled_by_all_items_not_by_those_of_a_split(dataset):
    config = study()
    named, settled = settled_study(config, dataset, _settle(config, dataset, memory=LARGE * 99**2))
    assert named.space == {"regularization": 100.0, "solver": "blocks"}
    assert [form.words for form in settled.forms] == ["solver=blocks (approximate)"]
    assert _settle(config, dataset, memory=LARGE * 100**2).of(config).space["solver"] == "exact"
    assert Settled.from_plain(settled.plain()) == settled


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("memory", [1, 2**50])
@pytest.mark.parametrize("solver", ["exact", "blocks", {"choice": ["exact", "blocks"]}])
def test_what_the_space_says_stands(dataset, solver, memory):
    config = study(space={"solver": solver})
    settled = _settle(config, dataset, memory=memory)
    named = settled.of(config).space
    assert {name: value for name, value in named.items() if name != "factorisation"} == config.space
    assert {form.value for form in settled.forms if form.parameter == "solver"} == (
        {solver} if isinstance(solver, str) else {"exact", "blocks"}
    )


@pytest.mark.usefixtures("large")
def test_auto_among_the_values_is_what_it_comes_to(dataset):
    config = study(space={"solver": {"choice": ["auto", "blocks"]}, "regularization": {"choice": [1.0, 2.0]}})
    assert _settle(config, dataset, memory=1).of(config).space["solver"] == "blocks"
    assert _settle(config, dataset, memory=2**50).of(config).space["solver"] == {"choice": ["exact", "blocks"]}


def test_blocks_that_do_not_go_with_the_rest_are_not_taken_and_the_reason_is_told(dataset, monkeypatch):
    monkeypatch.setattr("coldray.models.marec.model.INVERSE_BYTES", LARGE)
    monkeypatch.setattr("coldray.models.marec.model.blocked_bytes", lambda *_: 1)
    space = {"lambda_0": {"choice": [0.0, 1.0]}}
    settled = _settle(study("marec", space), dataset, memory=1)
    assert settled.values == {"solver": "cholesky"}
    assert "Blocks do not go with the other parameters" in settled.forms[0].told
    config = study("marec", {"learner": {"choice": ["regression", "correlation"]}})
    with pytest.raises(ConfigError, match=r"space.learner: 'correlation' does not go with the form of the largest fit"):
        _settle(config, dataset, memory=1).of(config)


def test_values_that_trials_can_take_are_counted():
    space = {"regularization": {"log_uniform": [1, 10]}, "block_items": {"int_uniform": [3, 5]}}
    config = study(space=space | {"block_share": {"choice": [0.1, 0.5]}}, search={"trials": 3})
    found = {name: _distinct_values(config, name) for name in EASEConfig.model_fields}
    single = {"solver": 1, "factorisation": 1}
    assert found == {"regularization": 3, "block_items": 3, "block_share": 2} | single


def test_a_study_too_large_in_exact_form_is_not_refused_and_one_too_large_in_any_is(dataset, large):
    large(memory_for(99))
    prepare_study(study(), dataset)
    prepare_study(study(space={"solver": "blocks"}), dataset)
    large(1000)
    with pytest.raises(CatalogTooLargeError, match="EASE on 100 items in blocks of 100"):
        prepare_study(study(), dataset)


def test_a_study_that_goes_on_takes_the_form_it_began_with_whatever_the_memory(dataset, large, tmp_path):
    record = StudyRecord(tmp_path / "events.jsonl", "s")
    began = _settle(study(), dataset, memory=2**50)
    record.settle(began)
    again = StudyRecord(tmp_path / "events.jsonl", "s")
    assert again.settled == began
    large(memory_for(101))
    assert settled_study(study(), dataset, again.settled)[0].space["solver"] == "exact"
    large(LARGE * 99**2)
    with pytest.raises(
        CatalogTooLargeError,
        match=r"begun with solver=exact \(exact\); factorisation=cholesky \(exact\)\. EASE on 100 items needs",
    ):
        settled_study(study(), dataset, again.settled)


def test_a_fit_outside_a_study_settles_itself_and_a_second_one_afresh(dataset, large, caplog):
    every = TrainingSet(dataset.interactions, FeatureEncoder().fit(dataset).transform(dataset.attributes, 100), "all")
    small = TrainingSet(dataset.interactions[:, :50], every.features.take(np.arange(50)), "half")
    large(memory_for(60))
    model = EASE(EASEConfig(block_items=20)).fit(every)
    assert model.config.solver == "blocks"
    assert "ease on all: solver=blocks (approximate): EASE on 100 items in exact form needs" in caplog.text
    assert model.fit(small).config.solver == "exact"
    assert (model.forms[0].exact, EASE.from_state(model.config, model.state(), small.features).n_items) == (True, 50)


@pytest.mark.usefixtures("ray_cluster")
def test_trials_test_and_bundle_take_one_form_and_it_is_told_everywhere(dataset, large, tmp_path):
    """The exact form fits for the training items of the splits, not for all items."""
    large(memory_for(99))
    config, told, record = study(space={"regularization": {"choice": [1.0, 100.0]}, "block_items": 10}), Told(), None
    config = config.model_copy(update={"search": GRID})
    record = StudyRecord(tmp_path / "events.jsonl", "s")
    result = run_study(prepare_study(config, dataset), study_id="s", record=record, listener=told)
    assert {trial.config["solver"] for trial in result.trials} == {"blocks"}
    (form,) = result.forms
    assert not form.exact
    assert form.loss is not None
    assert "ndcg@10" in form.measured
    assert sum("solver=blocks (approximate): EASE on 100 items in exact form needs" in line for line in told.lines) >= 2
    assert result.protocol["form"] == form.told
    report = page(study_report(result))
    assert "solver=blocks (approximate)" in report
    assert any("solver=blocks" in str(part) for part in terminal(study_report(result)).renderables)
    kind = model_type(config.model)
    winner = kind(kind.config_type.model_validate(dict(result.selection.winner.config)))
    bundle = fit_bundle(winner, dataset, FeatureEncoder(config.features), bundle_manifest(result))
    assert save_bundle(bundle, tmp_path / "bundle")
    assert bundle.manifest["forms"][0]["value"] == bundle.model.config.solver == "blocks"
    known = StudyRecord(tmp_path / "events.jsonl", "s")
    assert known.tested is not None
    assert known.tested.forms == result.forms
    again = run_study(prepare_study(config, dataset), study_id="s", record=known, listener=told)
    assert again.test == result.test
    assert told.lines[-1].endswith("has been tested before")


@pytest.mark.usefixtures("ray_cluster")
def test_the_loss_through_inducing_items_is_measured_and_told_and_every_fit_is_of_that_form(dataset):
    """The training items of the split are fewer than `exact_items`, all items are more."""
    space = {"exact_items": 95, "inducing": 6, "steps": 3, "n_factors": 8, "ridge": {"choice": [1.0, 4.0]}}
    config = study("kernel_align", space, candidates="cold", splits={"protocol": "notebook", "n_splits": 1})
    config = config.model_copy(update={"search": GRID})
    told = Told()
    result = run_study(prepare_study(config, dataset), study_id="k", listener=told)
    assert {trial.config["form"] for trial in result.trials} == {"inducing"}
    (form,) = result.forms
    assert (form.value, form.exact) == ("inducing", False)
    assert "100 items are more than exact_items (95)" in form.reason
    assert form.loss is not None
    assert re.search(r"ndcg@10 0\.\d+ against 0\.\d+ on a draw of \d+ items", form.measured)
    assert result.protocol["form"] == form.told
    assert any(form.measured in line for line in told.lines)
    winner = KernelAlign(KernelAlign.config_type.model_validate(dict(result.selection.winner.config)))
    bundle = fit_bundle(winner, dataset, FeatureEncoder(config.features), bundle_manifest(result))
    assert "inducing_items" in bundle.model.state()
    assert bundle.manifest["forms"][0]["loss"] == form.loss


def test_a_learned_kernel_outside_a_study_settles_itself_and_tells_an_approximation(dataset, caplog):
    every = TrainingSet(dataset.interactions, FeatureEncoder().fit(dataset).transform(dataset.attributes, 100), "all")
    small = TrainingSet(dataset.interactions[:, :50], every.features.take(np.arange(50)), "half")
    model = KernelAlign(KernelAlign.config_type(exact_items=60, inducing=10, steps=3, n_factors=8)).fit(every)
    assert (model.config.form, [form.value for form in model.forms]) == ("inducing", ["inducing"])
    assert "kernel_align on all: form=inducing (approximate): 100 items are more than exact_items (60)" in caplog.text
    model.fit(small)
    assert (model.config.form, model.forms[0].exact) == ("exact", True)


@pytest.mark.usefixtures("ray_cluster")
def test_the_entries_of_a_comparison_are_settled_and_told_too(dataset, large):
    large(memory_for(99))
    config = ComparisonConfig.model_validate(
        {
            "name": "c",
            "baseline": "ease",
            "entries": {name: {"study": "x"} for name in ("ease", "popular")},
            "candidates": "all",
            "splits": HOLDOUT,
        }
    )
    one = study(cutoffs=config.cutoffs)
    comparison = Comparison(config, (Entry("ease", "clicks", one), Entry("popular", "strict", popular(config))))
    checked = check_comparison(comparison, dataset)
    protocol = comparison_protocol(comparison, checked)
    result = run_comparison(comparison, checked, comparison_id="c", protocol=protocol)
    assert result.entry("ease").config["solver"] == "blocks"
    assert result.protocol["forms"].startswith("ease: solver=blocks (approximate)")
    assert result.entry("ease").study.protocol["form"] == result.entry("ease").study.forms[0].told


def popular(config):
    return study("popularity", {"trees": 5}, cutoffs=config.cutoffs)


# ---- what a form costs


def groups(n_groups, size, seed=0):
    """Return clicks of users who like one group of items each, half of it."""
    generator = np.random.default_rng(seed)
    liked = generator.integers(n_groups, size=400)
    member = np.repeat(np.arange(n_groups), size)
    return (member[None, :] == liked[:, None]) & (generator.random((400, n_groups * size)) < 0.5)


def task_of(dataset, config):
    (split,) = draw_splits(dataset, config)
    return prepare_task(split.for_tuning().fold, config.encoded_features)


@pytest.mark.parametrize(("block_items", "low", "high"), [(100, -1e-6, 1e-6), (2, 0.03, 1.0)])
def test_the_loss_is_that_of_blocks_too_small_for_the_groups_and_none_where_all_are_in_one(
    dataset, block_items, low, high, monkeypatch
):
    clicks = sp.csr_array(groups(5, 20).astype(np.float32))
    data = replace(sample_dataset(0, 400, 100), interactions=clicks, ratings=None, timestamps=None)
    config = study(space={"solver": "blocks", "block_items": block_items, "block_share": 1.0, "regularization": 5.0})
    found = form_loss._compare_forms(task_of(data, config), config, config.space, 2**40)
    assert found.n_items == 100
    assert low < found.loss("ndcg@10") < high


@given(st.integers(0, 10**6), st.floats(0.3, 1.0))
def test_a_draw_keeps_the_share_of_every_kind_of_item_and_all_that_belongs_to_them(seed, share):
    config = study("marec", {"lambda_1": 1.0}, candidates="cold", splits={"protocol": "notebook", "n_splits": 1})
    task = replace(task_of(sample_dataset(3, 60, 50), config), seed=seed)
    drawn = form_loss._draw_items(task, share)
    for whole, part in ((task.train.warm_items, drawn.train.warm_items), (task.held_out_items, drawn.held_out_items)):
        assert len(part) == int(np.ceil(share * len(whole)))
    if share == 1.0:
        assert (drawn.held_out != task.held_out).nnz == 0
    assert drawn.held_out.sum() == sum(drawn.held_out[:, drawn.held_out_items].sum(axis=0))
    assert set(drawn.users) <= set(task.users)


def test_the_labels_that_a_study_reads_are_counted_and_the_loss_of_a_sampled_graph_is_measured(dataset):
    space = {"heads": 2, "head_dim": 4, "epochs": 2, "validation_share": 0.0, "neighbours": 2}
    config = study("text_graph", space, candidates="cold", splits={"protocol": "notebook", "n_splits": 1})
    outlook, one = _outlook_of(config, dataset, 2**40), config.model_copy(update={"space": {}})
    read = FeatureEncoder(config.features).fit(dataset).transform(dataset.attributes, 100)
    assert outlook.labels >= read.labels[0] > 0  # labels of one item are no feature
    assert outlook.label_kinds >= read.labels[1] > 0
    assert _settle(one, dataset, memory=2**40).values == {"graph": "whole"}
    settled = _settle(config, dataset, memory=2**40)
    assert settled.values == {"graph": "sampled"}
    named = settled.of(config)
    found = form_loss._compare_forms(task_of(dataset, named), named, named.space, 2**40)
    assert found.exact > 0
    assert found.approximate != found.exact


def test_a_loss_beyond_two_percent_warns():
    form = Form("solver", "blocks", False, "It is large.")
    assert "Loss against the exact form: not known." in form.told
    assert not form.warns
    assert not replace(form, loss=0.02).warns
    assert "3.0%. This is more than 2%" in replace(form, loss=0.03).told
    assert form_loss._Compared(0.5, 0.45, 10).loss("ndcg@10") == pytest.approx(0.1)
    assert form_loss._Compared(0.5, 0.55, 10).loss("rmse") == pytest.approx(0.1)


def test_moments_of_some_items_and_blocks_of_marec_are_compared_in_proportion():
    config = MARec.config_type(solver="blocks", block_items=100, learning_items=60)
    exact, approximate = MARec.compared_forms(config, 0.1)
    assert (exact.solver, approximate.block_items, approximate.learning_items) == ("exact", 10, 6)
