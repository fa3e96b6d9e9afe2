"""A process that works on trials is killed: the trial is tried again, and the study is what it would have been."""

import os
import signal

import psutil
import pytest

from contracts.jobs import STUDY, StudyJob, check, descendants, end


def workers_at_work(process):
    """Return the processes that run trials now, by the name that Ray gives those of Ray Tune."""
    found = []
    for pid in descendants(process.pid):
        try:
            command = " ".join(psutil.Process(pid).cmdline())
        except psutil.NoSuchProcess:
            continue
        if command.startswith("ray::ImplicitFunc"):
            found.append(pid)
    return found


@pytest.mark.chaos
def test_a_killed_trial_is_tried_again_without_counting_as_failed(tmp_path, tracking_uri, undisturbed):
    study = {**STUDY, "failures": {"max_failed_trials": 0}}
    job = StudyJob(tmp_path, tracking_uri, study=study, slow_seconds=0.5)
    process = job.start()
    try:
        for done in (2, 6):
            job.wait_for(lambda done=done: len(job.events("trial_ended")) >= done, process)
            job.wait_for(lambda: workers_at_work(process), process)
            os.kill(workers_at_work(process)[0], signal.SIGKILL)
        status = process.wait(240)
    finally:
        end(process)
    assert status == 0, job.log.read_text()
    check(job, undisturbed)
