"""Training by Ray Train: the result of one worker, through lost workers and resumes, and the events of it."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import ray
import ray.cloudpickle

from coldray.core.errors import ConfigError, DivergedError
from coldray.training.checkpoint import latest_checkpoint, position_of
from coldray.training.cluster.mailbox import Delivery, Forwarding, new_mailbox
from coldray.training.config import TrainingConfig
from coldray.training.history import EpochRecord
from coldray.training.options import FitOptions
from coldray.training.progress import TrainingListener, TrainingPlace, TrainingPlan
from coldray.training.trainer import train
from training import planted
from training.planted import Regression, Telling

# The tests are not installed where Ray's workers run.
ray.cloudpickle.register_pickle_by_value(planted)

CONFIG = TrainingConfig(batch_size=14, epochs=5, learning_rate=0.05, patience=None, schedule="cosine")
ONE = FitOptions(checkpoint_every_steps=3)
TWO = FitOptions(workers=2, checkpoint_every_steps=3)
"""Of 53 examples and 7 users: batches of 7 + 7 and 6 + 5 examples, validations of 4 + 3 users."""


class Recorder(TrainingListener):
    def __init__(self):
        self.plans, self.steps, self.records, self.ended, self.places = [], [], [], [], set()

    def training_started(self, plan):
        self.plans.append(plan)
        self.places.add(os.getpid())

    def step_done(self, progress):
        self.steps.append(progress)

    def epoch_done(self, record):
        self.records.append(record)

    def training_ended(self, result):
        self.ended.append(result)


class Lost(Exception):  # noqa: N818
    """Stands for the loss of the calling process."""


class LostAt(TrainingListener):
    def epoch_done(self, record):
        if record.epoch == 1:
            raise Lost


@pytest.fixture(scope="module")
def recorder():
    return Recorder()


@pytest.fixture(scope="module")
def result(ray_cluster, recorder):
    """An uninterrupted training by two workers."""
    recorder.interrupts = signal.getsignal(signal.SIGINT)  # others may have set it, or the shell ignores it
    return train(Telling(), CONFIG, TWO.model_copy(update={"listener": recorder}))


def trajectory(found):
    """Return loss, validation and learning rate of each epoch."""
    return [
        (record.loss, record.metrics["fit"], record.metrics["close"], record.learning_rate) for record in found.history
    ]


def test_two_workers_go_the_way_of_one(result):
    alone = train(Regression(), CONFIG, ONE)
    assert [value for row in trajectory(result) for value in row] == pytest.approx(
        [value for row in trajectory(alone) for value in row], rel=1e-5, abs=1e-12
    )
    for name, tensor in alone.weights.items():
        assert result.weights[name].numpy() == pytest.approx(tensor.numpy(), rel=1e-4, abs=1e-6)
    assert (result.workers, result.reason, result.best_epoch, result.checkpoint) == (2, "epochs", 4, None)


def test_workers_take_no_more_threads_than_cpus(result):
    assert {record.metrics["threads"] for record in result.history} == {1.0}


def test_an_epoch_that_ran_twice_is_told_once(ray_cluster):
    mailbox, listener = new_mailbox(), Recorder()
    with Delivery(mailbox, lambda place: listener):
        for epoch in (0, 1, 1, 0, 2):
            ray.get(mailbox.put.remote(TrainingPlace(), "epoch_done", EpochRecord(epoch, 0.5, {}, {}, 0.1, 1.0, 1.0)))
    assert [record.epoch for record in listener.records] == [0, 1, 2]


def test_an_error_of_a_listener_is_raised_after_the_training(ray_cluster):
    mailbox = new_mailbox()
    delivery = Delivery(mailbox, lambda place: LostAt())
    delivery.__enter__()
    ray.get(mailbox.put.remote(TrainingPlace(), "epoch_done", EpochRecord(1, 0.5, {}, {}, 0.1, 1.0, 1.0)))
    with pytest.raises(Lost):
        delivery.__exit__(None, None, None)


def test_events_reach_the_calling_process(result, recorder):
    assert recorder.places == {os.getpid()}
    assert [(plan.workers, plan.first_epoch, plan.steps_per_epoch) for plan in recorder.plans] == [(2, 0, 4)]
    assert tuple(recorder.records) == result.history
    assert recorder.steps
    assert recorder.ended == [result]
    assert "training events" not in {thread.name for thread in threading.enumerate()}
    assert signal.getsignal(signal.SIGINT) is recorder.interrupts


def test_a_worker_killed_in_mid_epoch_changes_nothing(result, ray_cluster, tmp_path):
    """The training was begun by one worker, whose process was lost, before two took over and one was killed."""
    with pytest.raises(Lost):
        train(Regression(), CONFIG, ONE.model_copy(update={"checkpoints": tmp_path, "listener": LostAt()}))
    assert position_of(latest_checkpoint(tmp_path / "regression")) == (1, 3)
    listener, kill = Recorder(), tmp_path / "killed"
    found = train(
        Regression(kill=str(kill)), CONFIG, TWO.model_copy(update={"checkpoints": tmp_path, "listener": listener})
    )
    assert kill.exists()
    # Two workers began where one had stopped; those that replaced them began there or later, as Ray, which keeps a
    # checkpoint some time after it is reported, had come to.
    first, second = listener.plans
    assert (first.first_epoch, second.first_epoch >= 1) == (1, True)
    assert found.best_metric == pytest.approx(result.best_metric, rel=1e-3)
    assert [value for row in trajectory(found) for value in row] == pytest.approx(
        [value for row in trajectory(result) for value in row], rel=1e-5, abs=1e-12
    )
    assert [record.epoch for record in listener.records] == [1, 2, 3, 4]
    assert position_of(found.checkpoint) == (5, 0)
    again = train(Regression(), CONFIG, ONE.model_copy(update={"checkpoints": tmp_path}))
    assert again.history == found.history


def test_divergence_on_one_worker_ends_the_training_with_the_checkpoint_to_go_on_from(ray_cluster, tmp_path):
    listener = Recorder()
    with pytest.raises(DivergedError, match=r"diverged in epoch 2, step 3 of 4.*the loss is nan") as caught:
        train(Telling(diverges=True), CONFIG, TWO.model_copy(update={"checkpoints": tmp_path, "listener": listener}))
    latest = latest_checkpoint(tmp_path / "regression")
    assert position_of(latest) == (2, 3)
    assert str(latest) in str(caught.value)
    assert len(listener.plans) == 1  # it would only diverge again
    assert listener.ended == [None]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workers": 3}, "workers is 3, but the Ray cluster has 2 CPUs. Use 2 or fewer"),
        ({"workers": 1, "device": "cuda"}, "device is 'cuda', but the Ray cluster has no GPU. Use device='cpu'"),
    ],
)
def test_what_the_cluster_does_not_have_is_not_waited_for(ray_cluster, changes, message):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        train(Regression(), CONFIG, TWO.model_copy(update=changes))


def test_a_mailbox_and_the_fit_of_a_bundle_do_not_load_what_takes_seconds():
    """Each is a process of its own."""
    program = "import sys, coldray.bundle.fit; sys.exit(bool({'torch', 'ray.train', 'ray.data'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=120).returncode == 0


def test_trainings_of_one_fit_are_counted_by_their_tasks_and_their_weights_stay(ray_cluster, result):
    mailbox = new_mailbox()
    forwarding = Forwarding(mailbox, TrainingPlace("bundle"))
    for name in ("CARec", "CARec", "GERec"):
        forwarding.training_started(TrainingPlan(name, None, 1, 0, 1, 1, 1, "cpu"))
        forwarding.training_started(TrainingPlan(name, None, 1, 0, 1, 1, 1, "cpu"))  # workers were replaced
        forwarding.training_ended(result)
    events = ray.get(mailbox.take.remote())
    assert [place.words for place, name, _ in events if name == "training_ended"] == [
        "bundle, CARec",
        "bundle, CARec, refit",
        "bundle, GERec",
    ]
    assert len({place for place, *_ in events}) == 3
    assert [dict(ended.weights) for _, name, ended in events if name == "training_ended"] == [{}, {}, {}]
