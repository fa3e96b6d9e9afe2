"""The ablation job from the command line: a whole run on the sample, a break, and what bad input is told."""

import io
import re
import zipfile
from pathlib import Path

import pytest
import ray
from mlflow.tracking import MlflowClient
from rich.console import Console

from coldray.cli.jobs import ablation as job
from coldray.cli.progress import study as progress
from coldray.cli.progress.ablation import AblationProgress
from coldray.command.app import main
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.ablation import run as ablation
from coldray.experiments.listeners import StudyListener
from experiments.local_workers import LocalWorkers

STUDY = Path(__file__).parents[3] / "tune_spaces" / "marec_plus.yaml"
SMALL = (
    "splits.n_splits=1",
    "search.trials=3",
    "cutoffs=[10, 50]",
    "space.order=1",
    "space.batch_size=16",
    "space.epochs=3",
    "space.hidden_dim=8",
    "space.profile_dim=4",
)


def settings(*fields):
    return [part for field in fields for part in ("--set", field)]


class Job:
    """Runs the job in one folder, on a smaller sample, with folds worked on in this process."""

    def __init__(self, root, tracking_uri):
        self.root, self.tracking_uri, self.output = root, tracking_uri, root / "runs"

    def run(self, *arguments, listener=None, set_=SMALL):
        """Return status, what was printed, and what was told as an error."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.root)
            patch.setattr("sys.stdout", out)
            patch.setattr("sys.stderr", err)
            patch.setattr(ablation, "FoldWorkers", LocalWorkers)
            patch.setattr(job, "read_dataset", lambda *_: sample_dataset(0, 120, 100))
            if listener is not None:
                told = job.Listeners
                patch.setattr(job, "Listeners", lambda *others: told(*others, listener))
            status = main(
                [
                    *("ablation", "--output-dir", str(self.output), "--tracking-uri", self.tracking_uri),
                    *("--experiment", self.root.name, *settings(*set_), *arguments),
                ]
            )
        return status, out.getvalue(), err.getvalue()

    def runs(self):
        client = MlflowClient(self.tracking_uri, self.tracking_uri)
        experiment = client.get_experiment_by_name(self.root.name)
        return client.search_runs([experiment.experiment_id])

    def states(self):
        return sorted((self.output / "records").glob("*/folds"))


class Breaks(StudyListener):
    """Interrupts, or fails, at a line."""

    def __init__(self, at, error=KeyboardInterrupt):
        self.at, self.error = at, error

    def stage(self, message):
        if message.startswith(self.at):
            raise self.error


@pytest.fixture(scope="module")
def begun(tmp_path_factory, tracking_uri, ray_cluster):
    """A job that was interrupted, and what it said."""
    made = Job(tmp_path_factory.mktemp("ablation-job"), tracking_uri)
    said = made.run(listener=Breaks("tuned +CA+UA: "))
    return made, said, [list(state.iterdir()) for state in made.states()], made.runs()


@pytest.fixture(scope="module")
def finished(begun):
    """The same job, run again to its end."""
    return begun[0], *begun[0].run("--resume")


def test_an_interrupted_job_keeps_what_it_has(begun):
    _, (status, printed, error), kept, runs = begun
    assert status == 130
    assert error == "interrupted\n"
    assert "Traceback" not in printed
    ((*files,),) = kept
    steps = re.findall(r"tuning (\S+): \d+ configurations", printed)
    assert list(dict.fromkeys(steps)) == ["MARec", "+CA", "+CA+UA"]
    assert len(files) == 2 * len(steps)  # two folds each
    assert [run.info.status for run in runs] == ["KILLED"]


def test_the_job_goes_on_where_it_stopped_and_removes_the_state(finished):
    made, status, printed, error = finished
    assert (status, error) == (0, ""), printed
    assert "going on with ablation-sample-" in printed
    lines = [line[9:] for line in printed.splitlines()]
    assert not [line for line in lines if line.startswith(("MARec: validation", "+CA: validation"))]
    steps = [line for line in lines if line.startswith("tuning +CA+UA+GE: ")]
    assert steps
    assert len([line for line in lines if line.startswith("+CA+UA+GE: validation ")]) == 2 * len(steps)
    assert made.states() == []


def test_the_export_lies_in_a_folder_and_an_archive(finished):
    made, _, printed, _ = finished
    (folder,) = (path for path in made.output.iterdir() if path.is_dir() and path.name != "records")
    assert re.fullmatch(r"ablation-sample-\d{8}-\d{6}", folder.name)
    assert sorted(path.name for path in made.output.iterdir()) == [folder.name, f"{folder.name}.zip", "records"]
    names = {path.name for path in folder.iterdir()}
    assert {"report.html", "ablation_results.csv", "ablation_summary.csv", "config.json"} <= names
    assert len([name for name in names if name.endswith(".png")]) > 5
    with zipfile.ZipFile(made.output / f"{folder.name}.zip") as archive:
        assert archive.testzip() is None
        assert names - {"report.html"} <= {Path(name).name for name in archive.namelist()}
    assert f"Report: runs/{folder.name}/report.html" in printed.splitlines()
    assert f"Export: runs/{folder.name}.zip" in printed.splitlines()


def test_the_output_is_lines_that_say_what_happened(finished):
    _, _, printed, _ = finished
    assert "\x1b[" not in printed
    for mode in ("MARec", "+CA", "+CA+UA", "+CA+UA+GE"):
        assert re.search(rf"^ {re.escape(mode)} +\d\.\d{{4}}", printed, re.MULTILINE)
    assert "Synthetic data" in printed
    assert re.search(r"test 2/2: seed 4[23] / split 0 done", printed)


def test_the_server_has_the_ablation_and_its_modes(finished, begun):
    made = finished[0]
    runs = made.runs()
    assert {run.info.run_id for run in begun[3]} < {run.info.run_id for run in runs}, "the interrupted run went on"
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert sorted(run.data.tags["coldray.kind"] for run in runs) == ["ablation", *["mode"] * 4]
    (parent,) = (run for run in runs if run.data.tags["coldray.kind"] == "ablation")
    client = MlflowClient(made.tracking_uri, made.tracking_uri)
    logged = {Path(entry.path).name for entry in client.list_artifacts(parent.info.run_id, "ablation")}
    assert {"report.html", "ablation_results.csv"} < logged
    assert any(name.endswith(".zip") for name in logged)


def test_a_failure_keeps_the_state_and_a_new_study_begins_anew(begun, finished, tmp_path_factory):
    made = Job(tmp_path_factory.mktemp("ablation-fresh"), begun[0].tracking_uri)
    at = "tuning +CA: "
    status, printed, error = made.run(listener=Breaks(at, job_error("no room")))
    assert (status, error) == (1, "error: no room\n")
    (state,) = made.states()
    first = {path.name: path.stat().st_mtime_ns for path in state.iterdir()}
    assert len(first) == 2 * printed.count("tuning MARec: ") > 0
    status, printed, _ = made.run("--resume", listener=Breaks(at))
    assert "going on with" in printed
    assert {path.name: path.stat().st_mtime_ns for path in state.iterdir()} == first
    status, printed, _ = made.run(listener=Breaks(at))
    assert "going on with" not in printed
    assert "is the same study and unfinished" in printed
    assert len(made.states()) == 2
    status, _, error = made.run("--resume", listener=Breaks(at), set_=(*SMALL, "search.seed=1"))
    assert status == 1
    assert "search.seed was 0 and is 1" in error
    assert len(made.states()) == 2, "another study went on with the state of this one"
    assert len(made.runs()) == 2
    assert {run.info.status for run in made.runs()} == {"KILLED"}


def job_error(text):
    from coldray.core.errors import StudyError

    return StudyError(text)


def test_a_cluster_that_was_there_before_is_left_running(finished):
    assert ray.get(ray.put(1)) == 1


# Bad input: one line that names the thing, before anything is started or written.


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--set", "search.trails=3"), "Did you mean 'trials'?"),
        (("--set", "space.ca_wieght=1"), "Did you mean 'ca_weight'?"),
        (("--set", "space.ca_weight={uniform: [0, 1]}"), "space.ca_weight: an ablation tries listed values"),
        (("--set", "space.epochs={choice: [3, 5]}"), "space.epochs: "),
        (("--set", "search.trials=1"), "search.trials: 1"),
        (("marec",), "An ablation is of the model 'marec_plus'"),
        (("--seeds", "42", "42"), "The seed 42 is listed twice"),
        (("--dataset", "hetrek"), "Did you mean 'hetrec'?"),
    ],
)
def test_what_is_not_possible_is_told_in_one_line(tmp_path, capsys, monkeypatch, arguments, expected):
    monkeypatch.setattr(job, "connected_ray", lambda *_: pytest.fail("Ray was started for a job that cannot run"))
    output, database = tmp_path / "runs", tmp_path / "mlflow.db"
    status = main(["ablation", "--output-dir", str(output), "--tracking-uri", f"sqlite:///{database}", *arguments])
    printed = capsys.readouterr()
    assert status == 2
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    assert expected in line
    assert "Traceback" not in printed.out
    assert list(tmp_path.iterdir()) == []


def test_an_option_of_the_registry_is_not_offered(capsys):
    assert main(["ablation", "--model-name", "champion"]) == 2
    assert "--model-name" in capsys.readouterr().err


# How far a step is.


def display(terminal):
    file = io.StringIO()
    return AblationProgress(Console(file=file, width=80, force_terminal=terminal, color_system=None)), file


def test_on_a_terminal_a_bar_shows_each_step_while_it_runs():
    with display(terminal=True)[0] as shown:
        for step, total in (("MARec: validation", 4), ("+CA: validation", 6)):
            shown.advanced(step, 0, total)
            assert shown.steps.live.is_started
            shown.advanced(step, 2, total)
            (task,) = shown.steps.tasks
            assert (task.description, task.completed, task.total) == (step, 2, total)
            plain = Console(file=io.StringIO(), width=80, color_system=None)
            plain.print(shown.steps.get_renderable())
            assert f"{step} " in plain.file.getvalue()
            assert f"2/{total}" in plain.file.getvalue()
            shown.stage("a line beside the bar")
            shown.advanced(step, total, total)
            assert not shown.steps.live.is_started


def test_a_bar_ends_with_the_job_however_it_ends():
    shown, file = display(terminal=True)

    def interrupted():
        with shown:
            shown.advanced("test", 0, 3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not shown.steps.live.is_started
    assert "\x1b[?25h" in file.getvalue()  # the cursor is back


def test_without_a_terminal_a_line_breaks_a_long_silence(monkeypatch):
    shown, file = display(terminal=False)
    shown.advanced("+CA: validation", 1, 6)
    assert file.getvalue() == ""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    for done in (0, 2, 6):
        shown.advanced("+CA: validation", done, 6)
    (line,) = file.getvalue().splitlines()
    assert line.endswith("+CA: validation: 2 of 6 fits done")
    assert not shown.steps.live.is_started
