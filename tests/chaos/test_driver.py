"""The driver of a study is killed, interrupted or told to end: what has ended is kept, and nothing of it done again."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from coldray.command.app import main
from contracts.forked_workers import forking
from contracts.jobs import N_TRIALS, ROOT, StudyJob, check, descendants, end, gone, server_runs


def test_a_killed_driver_goes_on_where_it_was_killed(tmp_path, tracking_uri, undisturbed, capsys):
    job = StudyJob(tmp_path, tracking_uri, slow_seconds=0.3, command=forking)
    process = job.start()
    try:
        job.wait_for(lambda: len(job.events("trial_ended")) >= 3, process)
        below = descendants(process.pid)
        process.kill()
        process.wait()
        kept = {event["trial"] for event in job.events("trial_ended")}
    finally:
        end(process)
    assert main(["status", "--output-dir", str(job.output)]) == 0
    status = capsys.readouterr().out
    assert "interrupted" in status
    assert f"{len(kept)}/{N_TRIALS} trials" in status
    process = job.start("--resume")
    try:
        job.wait_for(lambda: len(job.events("process")) == 2, process)
        following = subprocess.Popen(
            [sys.executable, str(ROOT / "jobs" / "study_status.py"), "--output-dir", str(job.output), "--follow"],
            stdout=subprocess.PIPE,
            text=True,
        )
        status, printed = process.wait(240), job.log.read_text()
        followed, _ = following.communicate(timeout=60)
    finally:
        end(process)
    assert status == 0, printed
    assert f"going on with {job.records.name}" in printed
    assert following.returncode == 0
    assert "finished" in followed
    assert f"{N_TRIALS}/{N_TRIALS} trials" in followed
    started = [event["trial"] for event in job.events("trial_started")]
    assert all(started.count(number) == 1 for number in kept), "a trial that had ended was run again"
    check(job, undisturbed)
    assert gone(below) == [], "something is left running"


@pytest.mark.chaos
@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_job_in_seconds_with_the_command_that_goes_on(
    tmp_path, tracking_uri, undisturbed, number, expected
):
    job = StudyJob(tmp_path, tracking_uri, slow_seconds=0.3)
    process = job.start()
    try:
        job.wait_for(lambda: len(job.events("trial_ended")) >= 2, process)
        below = descendants(process.pid)
        told = time.monotonic()
        process.send_signal(number)
        assert process.wait(60) == expected, job.log.read_text()
        assert time.monotonic() - told < 30
        assert gone(below) == []
    finally:
        end(process)
    printed = job.log.read_text()
    (line,) = (line for line in printed.splitlines() if "to go on: " in line)
    assert "Traceback" not in printed
    assert {run.info.status for run in server_runs(job)} <= {"FINISHED", "KILLED"}
    command = line.partition("to go on: ")[2].split()
    assert command[-2:] == ["--resume", job.records.name]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    check(job, undisturbed)


@pytest.mark.chaos
def test_a_second_driver_is_refused_while_the_first_works(tmp_path, tracking_uri):
    job = StudyJob(tmp_path, tracking_uri, slow_seconds=0.5)
    process = job.start()
    try:
        job.wait_for(lambda: job.events("process"), process)
        status, printed = StudyJob(tmp_path, tracking_uri).run("--resume")
        assert status == 1
        assert f"is being worked on by process {process.pid}" in printed
        assert psutil.pid_exists(process.pid)
    finally:
        end(process)
