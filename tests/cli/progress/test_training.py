"""What a running training shows, in a terminal and without one."""

import io

import pytest
from rich.console import Console

from coldray.cli.progress import training as training_progress
from coldray.cli.progress.training import TrainingProgress
from coldray.training.history import EpochRecord, TrainingResult
from coldray.training.progress import StepProgress, TrainingListener, TrainingPlan, current_listener, watching

PLAN = TrainingPlan("two-tower", "ndcg@10", 20, 0, 1500, 1_500_000, 2, "cpu")


def console(terminal):
    return Console(
        file=io.StringIO(), record=True, width=80, force_terminal=terminal, color_system=None, soft_wrap=not terminal
    )


def shown(display):
    """Return what the display would draw now, as plain text."""
    plain = Console(file=io.StringIO(), width=80, color_system=None)
    plain.print(display.render())
    return plain.file.getvalue()


def record(epoch, metric=None, loss=0.5):
    return EpochRecord(epoch, loss, {}, {} if metric is None else {"ndcg@10": metric}, 0.01, 12345.0, 120.0)


def result(reason="patience", metric=0.3):
    return TrainingResult({}, (record(0), record(1)), 1, metric, reason, 2, "cpu", None)


@pytest.fixture(params=[True, False], ids=["terminal", "lines"])
def display(request):
    """A display whose training has begun, ended after the test so that no thread goes on drawing."""
    made = TrainingProgress(console(request.param))
    made.training_started(PLAN)
    yield made
    made.training_ended(None)


def test_the_beginning_says_what_is_trained(display):
    text = " ".join(display.console.export_text().split())
    assert "training two-tower: 1,500,000 examples, up to 20 epochs of 1,500 steps, 2 workers on cpu" in text


def test_the_display_shows_epoch_loss_metric_and_throughput(display):
    display.step_done(StepProgress(0, 750, 1500, 0.625, 0.01, 54321.0))
    assert "epoch 1, step 750/1,500  loss 0.6250  54,321 examples/s" in shown(display)
    assert "0/20" in shown(display)
    display.epoch_done(record(0, 0.25))
    assert "1/20" in shown(display)
    assert "epoch 1  loss 0.5000  ndcg@10 0.2500  12,345 examples/s" in shown(display)
    assert "step 750" not in shown(display)


def test_the_best_epoch_stays_while_later_ones_are_worse(display):
    for epoch, metric in enumerate((0.25, 0.5, None, 0.125)):
        display.epoch_done(record(epoch, metric))
    assert "best   ndcg@10 0.5000  epoch 2" in shown(display)
    assert "epoch 4  loss" in shown(display)


def test_a_training_that_goes_on_says_where_from(display):
    display.training_started(TrainingPlan("two-tower", "ndcg@10", 20, 7, 1500, 10, 1, "cuda"))
    text = " ".join(display.console.export_text().split())
    assert "workers were replaced: training goes on" in text
    assert "1 worker on cuda, from epoch 8" in text
    assert "7/20" in shown(display)


@pytest.mark.parametrize(
    ("ended", "line"),
    [
        (result(), "training done: 2 epochs, no better for a while, ndcg@10 0.3000 in epoch 2"),
        (result("epochs", None), "training done: 2 epochs, all epochs trained"),
        (None, "training failed"),
    ],
)
def test_the_end_says_why(display, ended, line):
    display.training_ended(ended)
    assert display.live is None
    assert line in " ".join(display.console.export_text().split())


def test_the_display_fits_80_columns(display):
    display.step_done(StepProgress(999, 123456, 1234567, 1234.5678, 0.01, 123456789.0))
    display.epoch_done(record(998, 0.123456, 12345.678))
    assert max(map(len, shown(display).splitlines())) <= 80


def test_brackets_in_a_name_are_text(display):
    display.plan = None
    display.training_started(TrainingPlan("[red]not markup[/red]", None, 1, 0, 1, 1, 1, "cpu"))
    assert "[red]not markup[/red]" in display.console.export_text()


def test_without_a_terminal_a_line_comes_now_and_then(monkeypatch):
    made = TrainingProgress(console(False))
    made.training_started(PLAN)
    made.console.export_text(clear=True)
    made.step_done(StepProgress(0, 750, 1500, 0.625, 0.01, 54321.0))
    made.epoch_done(record(0, 0.25))
    assert made.console.export_text(clear=True) == ""
    monkeypatch.setattr(training_progress, "LINE_SECONDS", -1.0)
    made.step_done(StepProgress(1, 75, 1500, 0.625, 0.01, 54321.0))
    line = made.console.export_text(clear=True)
    assert "epoch 2, step 75/1,500  loss 0.6250  54,321 examples/s  (best 0.2500)" in line
    made.epoch_done(record(1, 0.5))
    assert "epoch 2  loss 0.5000  ndcg@10 0.5000" in made.console.export_text()


def test_a_second_training_is_not_taken_for_the_first_with_new_workers():
    terminal = Console(file=io.StringIO(), width=200)
    progress = TrainingProgress(terminal)
    plan = TrainingPlan("one", "ndcg@10", 3, 0, 2, 20, 1, "cpu")
    progress.training_started(plan)
    progress.training_ended(None)
    progress.training_started(plan)
    assert "replaced" not in terminal.file.getvalue()


def test_a_fit_that_names_no_listener_tells_the_one_that_watches():
    class Names(TrainingListener):
        def __init__(self):
            self.names = []

        def training_started(self, plan):
            self.names.append(plan.name)

    outer, inner = Names(), Names()
    with watching(outer):
        with watching(inner):
            current_listener().training_started(TrainingPlan("one", None, 3, 0, 2, 20, 1, "cpu"))
        current_listener().training_started(TrainingPlan("two", None, 3, 0, 2, 20, 1, "cpu"))
    current_listener().training_started(TrainingPlan("three", None, 3, 0, 2, 20, 1, "cpu"))
    assert (outer.names, inner.names) == (["two"], ["one"])
