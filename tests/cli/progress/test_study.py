"""What a running study shows, in a terminal and without one."""

import io
import time
from dataclasses import replace

import pytest
from rich.console import Console

from coldray.cli.progress import study as progress
from coldray.cli.progress.study import StudyProgress
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.results import FoldMetrics, TrialResult
from coldray.experiments.search.shared_results import SharedStatus
from coldray.experiments.space import StudyConfig
from coldray.training.history import EpochRecord, TrainingResult
from coldray.training.progress import TrainingPlace, TrainingPlan

CONFIG = StudyConfig.model_validate(
    {
        "name": "small",
        "model": "marec",
        "space": {"lambda_1": {"choice": [1.0, 10.0]}, "order": {"choice": [1, 2]}, "beta": 3.0},
        "search": {"trials": 6},
    }
)
RUNNING = SharedStatus("eigendecomposition of seed 42 / split 0", "running", 7.4)
DONE = SharedStatus("regression moments of seed 42 / split 0", "done", 3.0)


def console(terminal):
    return Console(
        file=io.StringIO(), record=True, width=80, force_terminal=terminal, color_system=None, soft_wrap=not terminal
    )


def shown(display):
    """Return what the display would draw now, as plain text."""
    plain = Console(file=io.StringIO(), width=80, color_system=None)
    plain.print(display.render())
    return plain.file.getvalue()


def fold(value, split=0):
    return FoldMetrics(seed=42, split=split, metrics={"ndcg@10": value})


def trial(number, value=None, status="finished", error=None):
    folds = () if value is None else (fold(value, 0), fold(value, 1))
    return TrialResult(f"t{number}", number, {"lambda_1": 10.0, "order": 1}, folds, status, error)


@pytest.fixture(params=[True, False], ids=["terminal", "lines"])
def display(request):
    """A display whose search has begun, ended after the test so that no thread goes on drawing."""
    made = StudyProgress(console(request.param))
    made.study_started(CONFIG, sample_dataset(0, 60, 50), "small-sample-1", {})
    made.search_started(6, 2, "ndcg@10")
    yield made
    made.search_ended()


def test_the_beginning_says_what_is_searched_on_what(display):
    text = display.console.export_text()
    assert "small-sample-1: sample (synthetic), 60 users × 50 items" in text
    assert "searching: 6 trials × 2 splits, validation ndcg@10" in text


def test_real_data_is_not_called_synthetic():
    made = StudyProgress(console(False))
    made.study_started(CONFIG, replace(sample_dataset(0, 60, 50), synthetic=False, name="films"), "s", {})
    assert "films, 60 users" in made.console.export_text()
    assert "synthetic" not in made.console.export_text()


def test_the_display_counts_trials_and_shows_the_best(display):
    display.trial_started("t0", 0, {"lambda_1": 10.0, "order": 1})
    display.trial_started("t1", 1, {"lambda_1": 1.0, "order": 2})
    assert "0/6" in shown(display)
    assert "best" not in shown(display)
    display.trial_ended(trial(0, 0.25))
    assert "1/6" in shown(display)
    assert "ndcg@10 0.2500  trial 0  λ₁=10 · order=1" in shown(display)
    display.trial_ended(trial(1, 0.125))
    assert "2/6" in shown(display)
    assert "ndcg@10 0.2500  trial 0" in shown(display)
    display.trial_ended(trial(2, 0.5))
    assert "ndcg@10 0.5000  trial 2" in shown(display)


def test_the_display_shows_running_trials_and_their_splits(display):
    display.trial_started("t0", 0, {"lambda_1": 10.0, "order": 1})
    assert "#0" in shown(display)
    assert "0/2 splits" in shown(display)
    display.trial_reported("t0", [fold(0.2)])
    assert "1/2 splits" in shown(display)
    assert "λ₁=10 · order=1" in shown(display)
    display.trial_ended(trial(0, 0.2))
    assert "splits" not in shown(display)


def test_the_display_says_what_trials_wait_for(display):
    display.shared([DONE, RUNNING])
    assert "waiting for eigendecomposition of seed 42 / split 0, 7 s" in shown(display)
    assert "1 shared computations done" in shown(display)
    display.shared([DONE, SharedStatus(RUNNING.label, "done", 9.0)])
    assert "waiting" not in shown(display)
    assert "2 shared computations done" in shown(display)


def test_pruned_and_failed_trials_never_look_best(display):
    display.trial_ended(trial(0, 0.9, "pruned"))
    display.trial_ended(trial(1, 0.9, "failed", "SingularMatrixError: no"))
    assert "best" not in shown(display)
    assert "2/6" in shown(display)


def test_a_failed_trial_tells_its_reason_at_once(display):
    display.trial_ended(trial(3, None, "failed", "SingularMatrixError: use a larger lambda_1"))
    assert "trial 3 failed: SingularMatrixError: use a larger lambda_1" in display.console.export_text()


@pytest.mark.parametrize(
    "hostile", ["[red]not markup[/red]", "[/dim] closes nothing", "index [0] of [link=x]", "[bold"]
)
def test_brackets_in_messages_are_text(display, hostile):
    display.trial_ended(trial(3, None, "failed", hostile))
    display.stage(hostile)
    display.shared([SharedStatus(hostile, "running", 1.0)])
    display.trial_started("t9", 9, {"lambda_1": hostile, "order": 1})
    text = " ".join(display.console.export_text().split())
    assert text.count(hostile) >= 2
    drawn = shown(display)
    assert drawn.count(hostile) == 2


def test_the_end_counts_how_trials_ended(display):
    display.trial_ended(trial(0, 0.25))
    display.trial_ended(trial(1, 0.2, "pruned"))
    display.trial_ended(trial(2, None, "failed", "no"))
    display.shared([DONE, DONE])
    display.search_ended()
    assert "search done: 1 finished, 1 pruned, 1 failed; 2 shared computations" in display.console.export_text()


def test_a_search_in_which_nothing_ended_says_so(display):
    display.search_ended()
    assert "no trial ended" in display.console.export_text()


def test_the_display_fits_80_columns_and_shows_few_of_many_running(display):
    for number in range(20):
        display.trial_started(f"t{number}", number, {"lambda_1": 1.0 / 3 * 10**number, "order": 2})
    display.shared([RUNNING] * 20)
    lines = shown(display).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 12


def test_a_terminal_gets_one_live_display_and_no_line_for_each_trial():
    made = StudyProgress(console(True))
    made.search_started(3, 2, "ndcg@10")
    assert made.live is not None
    before = made.console.export_text(clear=True)
    assert "searching" in before
    made.trial_ended(trial(0, 0.2))
    assert "best so far" not in made.console.export_text()
    made.search_ended()
    assert made.live is None


def test_without_a_terminal_each_improvement_is_a_line_of_its_own():
    made = StudyProgress(console(False))
    made.study_started(CONFIG, sample_dataset(0, 60, 50), "small-sample-1", {})
    made.search_started(3, 2, "ndcg@10")
    assert made.live is None
    made.console.export_text(clear=True)
    for number, value in enumerate((0.2, 0.1, 0.3)):
        made.trial_ended(trial(number, value))
    lines = made.console.export_text().splitlines()
    assert [line.partition(" ")[2] for line in lines] == [
        "best so far: ndcg@10 0.2000  trial 0  λ₁=10 · order=1",
        "best so far: ndcg@10 0.3000  trial 2  λ₁=10 · order=1",
    ]
    assert all("\x1b" not in line for line in made.console.file.getvalue().splitlines())


def test_without_a_terminal_silence_ends_after_a_while(monkeypatch):
    made = StudyProgress(console(False))
    made.search_started(3, 2, "ndcg@10")
    made.trial_started("t0", 0, {"lambda_1": 1.0, "order": 1})
    made.console.export_text(clear=True)
    made.shared([RUNNING])
    assert made.console.export_text(clear=True) == ""
    monkeypatch.setattr(progress, "LINE_SECONDS", -1.0)
    made.shared([RUNNING])
    text = made.console.export_text()
    assert "0 trials done, 1 running; waiting for eigendecomposition of seed 42 / split 0" in " ".join(text.split())
    made.running.clear()
    made.shared([])
    assert "0 trials done, waiting for a worker" in made.console.export_text()


def test_a_terminal_shows_that_no_trial_runs(monkeypatch):
    made = StudyProgress(console(True))
    made.search_started(3, 2, "ndcg@10")
    made.shared([])
    assert "waiting for a worker" not in shown(made)
    monkeypatch.setattr(progress, "LINE_SECONDS", -1.0)
    made.shared([])
    assert "waiting for a worker" in shown(made)
    made.trial_started("t0", 0, {"lambda_1": 1.0, "order": 1})
    assert "waiting for a worker" not in shown(made)
    made.search_ended()


# ---- trainings

PLAN = TrainingPlan("vae", "ndcg@10", 10, 0, 4, 4000, 1, "cpu")
EPOCH = EpochRecord(0, 0.5, {}, {"ndcg@10": 0.25}, 0.01, 1234.0, 2.0)


def begin(display, place):
    training = display.training_of(place)
    training.training_started(PLAN)
    return training


def test_the_epochs_of_running_trials_are_shown_with_the_time_left_of_trial_and_study(display, monkeypatch):
    now = [time.monotonic()]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    display.search_started(2, 1, "ndcg@10")
    display.trial_started("t3", 3, {"lambda_1": 10.0, "order": 1})
    training = begin(display, TrainingPlace.of_trial(3, "seed 42 / split 0"))
    now[0] += 60
    display.console.export_text(clear=True)
    training.epoch_done(EPOCH)
    text = " ".join((shown(display) if display.live else display.console.export_text()).split())
    assert (
        "trial 3, seed 42 / split 0: epoch 1/10, loss 0.5000, ndcg@10 0.2500, 1,234 examples/s, 9 min 0 s left at "
        "most; about 19 min 0 s left for the trial"
    ) in text
    assert "about 39 min 0 s left" in text
    training.training_ended(None)
    assert "epoch 1" not in shown(display)


def test_a_refit_is_the_second_half_of_a_fit(display):
    display.trial_started("t3", 3, {"lambda_1": 10.0, "order": 1})
    (trial,) = display.running.values()
    begin(display, TrainingPlace.of_trial(3, "seed 42 / split 0")).epoch_done(EPOCH)
    assert trial.share(2) == pytest.approx(0.05 / 2)
    begin(display, TrainingPlace("trial 3", 3, "seed 42 / split 0", nth=1)).epoch_done(EPOCH)
    assert trial.share(2) == pytest.approx(0.55 / 2)
    display.trial_reported("t3", [])  # a scheduler is told of the epoch
    assert trial.share(2) == pytest.approx(0.55 / 2)
    display.trial_reported("t3", [fold(0.2)])
    assert trial.share(2) == 0.5


def test_a_trial_that_is_stopped_takes_its_training_with_it(display):
    display.trial_started("t3", 3, {"lambda_1": 10.0, "order": 1})
    begin(display, TrainingPlace.of_trial(3, "seed 42 / split 0")).epoch_done(EPOCH)
    assert "epoch 1" in shown(display)
    display.trial_ended(trial(3, 0.1, "pruned"))
    assert "epoch 1" not in shown(display)


def test_a_search_that_is_interrupted_leaves_no_training_behind(display):
    display.trial_started("t3", 3, {"lambda_1": 10.0, "order": 1})
    begin(display, TrainingPlace.of_trial(3, "seed 42 / split 0")).epoch_done(EPOCH)
    display.search_ended()
    assert display.live is None
    assert shown(display).strip() == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_the_training_of_a_bundle_is_told_from_its_beginning_to_its_end(terminal, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", -1.0)
    made = StudyProgress(console(terminal))
    training = begin(made, TrainingPlace("bundle"))
    assert (made.live is not None) == terminal
    training.epoch_done(EPOCH)
    assert "bundle: epoch 1/10" in shown(made)
    training.training_ended(TrainingResult({}, (EPOCH,), 0, 0.25, "epochs", 1, "cpu", None))
    assert made.live is None
    text = " ".join(made.console.export_text().split())
    assert "bundle: training vae, 4,000 examples, up to 10 epochs of 4 steps, 1 worker on cpu" in text
    assert "bundle: training done, 1 epochs, all epochs trained, ndcg@10 0.2500 in epoch 1" in text
    assert "trials done" not in text
