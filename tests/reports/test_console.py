import dataclasses
import io
import statistics

import pytest
from rich.console import Console

from coldray.reports.console import console_summary


def printed(result, **options) -> str:
    console = Console(width=80, file=io.StringIO())
    console.print(console_summary(result, **options))
    return console.file.getvalue()


def test_eighty_columns_cut_no_number(any_study):
    text = printed(any_study)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    metric = any_study.selection.metric
    for trial in any_study.ranked_trials()[:10]:
        assert f"{trial.mean(metric):.4f}" in text
        if len(trial.folds) > 1:
            assert f"{trial.mean(metric):.4f} ± {trial.std(metric):.4f}" in text
    for name in any_study.test[0].metrics:
        assert f"{statistics.fmean(fold.metrics[name] for fold in any_study.test):.4f}" in text
        low, high = any_study.test_intervals[name]
        assert f"{low:.4f} to {high:.4f}" in text


def test_the_winner_is_marked_and_tested_once(study):
    result = study(winner_rank=14)
    text = printed(result, top=5)
    marked = [line for line in text.splitlines() if line.strip().startswith("→") and "selected" not in line]
    assert len(marked) == 1
    assert f"#{result.selection.winner.number} " in marked[0]
    assert "tested once" in text
    assert f"of the best (#{result.selection.best.number})" in text


def test_counts_name_every_ending(study):
    assert "30 trials: 19 finished, 7 pruned, 4 failed" in printed(study(n_trials=30, n_pruned=7, n_failed=4))


@pytest.mark.parametrize("synthetic", [True, False])
def test_generated_data_is_named(study, published_dataset, synthetic):
    text = printed(study(dataset={**published_dataset, "synthetic": synthetic}))
    assert ("Synthetic data: generated sample, not a real dataset" in text) == synthetic


def test_values_are_not_read_as_markup(study):
    text = printed(study(parameters=("x",), space={"x": ["[bold]a[/bold]", "[/]"]}), top=30)
    assert "[bold]a[/bold]" in text
    assert "x=[/]" in text


def test_a_study_without_a_test_says_so(study):
    assert "was not tested" in printed(dataclasses.replace(study(), test=(), test_intervals={}))
