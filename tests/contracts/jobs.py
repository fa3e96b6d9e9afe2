"""Jobs as users start them: processes of their own, which tests interrupt in every way there is."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from mlflow.tracking import MlflowClient
from typer import Typer
from typer.main import get_command

from coldray.command.app import COMMANDS
from coldray.command.parameters import OptionsCommand, callback_of

ROOT = Path(__file__).parents[2]
STUDY = {
    "name": "chaos",
    "model": "marec",
    "space": {
        "lambda_1": {"choice": [1.0, 10.0, 100.0, 1000.0]},
        "alpha": {"choice": [0.5, 1.0, 2.0]},
        "order": 1,
        "delta": 5.0,
    },
    "search": {"algorithm": "grid", "max_concurrent": 2},
    "splits": {"n_splits": 2},
    "cutoffs": [10],
}


N_TRIALS = 12
"""Of that study."""


def plain(*command):
    """Return the command of a Python program and its arguments: its Ray starts workers as everywhere."""
    return [sys.executable, *map(str, command)]


class StudyJob:
    """One study of a folder, started as often as it takes.

    Parameters
    ----------
    root
        Its working directory.
    tracking_uri
        The tracking server.
    slow_seconds
        What every fit takes longer, so that there is time to interrupt it.
    command
        What makes the command of the job and its arguments: `plain`, or ``contracts.forked_workers.forking``.
    """

    def __init__(self, root, tracking_uri, *, study=STUDY, slow_seconds=0.0, arguments=(), command=plain):
        self.command = command
        self.root, self.tracking_uri, self.arguments = root, tracking_uri, list(arguments)
        self.study = root / "study.yaml"
        self.study.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
        self.output = root / "runs"
        self.slow_seconds = slow_seconds

    def start(self, *arguments):
        """Start the job in a process group of its own; its output goes to a file."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
        job = ROOT / "jobs" / "tune_marec.py"
        given = [
            *("--study", str(self.study), "--output-dir", str(self.output), "--tracking-uri", self.tracking_uri),
            *("--cpus", "2", "--experiment", "chaos", *self.arguments, *arguments),
        ]
        command = self.command(self._slowed(str(job)) if self.slow_seconds else job, *given)
        self.log = self.root / f"log-{len(list(self.root.glob('log-*')))}.txt"
        with self.log.open("w") as output:
            return subprocess.Popen(
                command, cwd=self.root, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _slowed(self, job):
        """Return a job whose trials take longer: workers import this file by its name."""
        path = self.root / "slow_job.py"
        path.write_text(
            "import runpy, sys, time\n"
            "import coldray.experiments.search.run as search\n"
            "def slowed(*values, real=search.run_trials, **named):\n"
            "    from coldray.experiments.search import trial\n"
            "    quick = vars(trial).setdefault('quick_run', trial._run)\n"
            "    def slow(*given):\n"
            f"        time.sleep({self.slow_seconds})\n"
            "        return quick(*given)\n"
            "    trial._run = slow\n"
            "    return real(*values, **named)\n"
            "search.run_trials = slowed\n"
            f"sys.argv[0] = {job!r}\n"
            f"runpy.run_path({job!r}, run_name='__main__')\n",
            encoding="utf-8",
        )
        return path

    def run(self, *arguments, timeout=240):
        """Run the job to its end; return its status and what it printed."""
        process = self.start(*arguments)
        try:
            status = process.wait(timeout)
        finally:
            end(process)
        return status, self.log.read_text()

    @property
    def records(self):
        """The folder of the one study."""
        (folder,) = (self.output / "records").iterdir()
        return folder

    def events(self, name=None):
        """Return what the study has recorded so far."""
        found = []
        with suppress(ValueError, OSError):
            for line in (self.records / "events.jsonl").read_text().splitlines():
                with suppress(json.JSONDecodeError):
                    found.append(json.loads(line))
        return [event for event in found if name is None or event["event"] == name]

    def results(self):
        """Return number, parameters and metrics of every trial that has ended."""
        return {
            event["trial"]: (event["result"]["config"], [fold["metrics"] for fold in event["result"]["folds"]])
            for event in self.events("trial_ended")
        }

    def wait_for(self, condition, process, timeout=180):
        """Wait until a condition holds; fail if the job ends before."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)


def options_of(command, *arguments):
    """Return the options of a command as its command line gives them."""
    app, found = Typer(add_completion=False), []
    parsed = callback_of(COMMANDS[command].options, found.append, {})
    app.command(command, cls=OptionsCommand)(parsed)
    get_command(app).main([str(argument) for argument in arguments], prog_name=command, standalone_mode=False)
    return found[0]


def server_runs(job):
    client = MlflowClient(job.tracking_uri, job.tracking_uri)
    experiment = client.get_experiment_by_name("chaos")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    return [run for run in runs if run.data.tags["coldray.key"].startswith(job.records.name)]


def check_trials(job, undisturbed):
    """Every trial has ended once, with the configuration and the metrics of a study that nobody has disturbed."""
    ended = [event["trial"] for event in job.events("trial_ended")]
    assert sorted(ended) == list(range(N_TRIALS)), "a trial is missing, or ended twice"
    results = job.results()
    for trial in undisturbed.trials:
        config, metrics = results[trial.number]
        assert config == dict(trial.config)
        assert metrics == [pytest.approx(dict(fold.metrics), abs=1e-9) for fold in trial.folds]


def check(job, undisturbed):
    """The study is that which nobody has disturbed: its trials, its winner, and its runs on the server."""
    check_trials(job, undisturbed)
    started = [event["trial"] for event in job.events("trial_started")]
    for number in set(started):
        assert started.count(number) <= len(job.events("process"))
    runs = server_runs(job)
    kinds = [run.data.tags["coldray.kind"] for run in runs]
    assert sorted(kinds) == ["study", *["trial"] * N_TRIALS]
    assert {run.info.status for run in runs} == {"FINISHED"}
    (parent,) = (run for run in runs if run.data.tags["coldray.kind"] == "study")
    assert parent.data.tags["coldray.winner_trial"] == str(undisturbed.selection.winner.number)
    test = {name: value for name, value in parent.data.metrics.items() if name == "test_ndcg_at_10"}
    expected = sum(fold.metrics["ndcg@10"] for fold in undisturbed.test) / len(undisturbed.test)
    assert test == {"test_ndcg_at_10": pytest.approx(expected, abs=1e-9)}
    for run in runs:
        if run.data.tags["coldray.kind"] == "trial":
            client = MlflowClient(job.tracking_uri, job.tracking_uri)
            history = client.get_metric_history(run.info.run_id, "val_ndcg_at_10")
            assert len(history) == 1, "a metric was logged twice"


def end(process):
    """Kill a job and everything it has started."""
    found = [process.pid, *descendants(process.pid)]
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def descendants(pid):
    """Return the processes below one; without Ray's agents, which look for their parent for a minute and a half."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if "Agent" not in " ".join(child.cmdline()):
                    found.append(child.pid)
    return found


def gone(pids, timeout=60):
    """Wait until processes have ended; return those that have not."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        left = [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
        if not left:
            return []
        time.sleep(0.2)
    return left
