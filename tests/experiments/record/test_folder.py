"""The folder of a study: what goes on with it and what does not, who works on it, and what its record says."""

import errno
import fcntl
import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest

from coldray.core.errors import (
    CatalogTooLargeError,
    ConfigError,
    DataFormatError,
    EmptyDatasetError,
    FailureBudgetError,
    JournalError,
    OtherStudyError,
    OutputError,
    SearchInterruptedError,
    SelectionError,
    StudyError,
    StudyLockedError,
    UnmatchedItemsError,
)
from coldray.core.journal import Journal
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.record.folder import StudyFolder, StudyIdentity, _unfinished_studies, locked, open_study
from coldray.experiments.record.record import StudyRecord, trial_key
from coldray.experiments.record.state import search_state
from coldray.experiments.results import FoldMetrics, TrialResult
from coldray.experiments.space import StudyConfig

SETTINGS = {"space": {"lambda_1": {"choice": [1.0, 2.0]}}, "search": {"trials": 2, "seed": 0}}
IDENTITY = StudyIdentity("study", "small", "sample", "abcdef0123456789", SETTINGS)
CONFIG = StudyConfig.model_validate({"name": "small", "model": "marec", "space": SETTINGS["space"]})


@pytest.fixture(scope="module")
def dataset():
    return sample_dataset(0, 60, 40)


def begin(output, identity=IDENTITY, resume=None, *, fails=True, said=None, error=None):
    """Open a study and record something; return its name."""
    error = error or ZeroDivisionError()
    say = said.append if said is not None else (lambda _: None)
    try:
        with open_study(output, identity, resume=resume, command=["python", "job.py"], say=say) as folder:
            folder.record().write("process", fingerprint="")
            if fails:
                raise error
    except type(error):
        assert fails
    return folder


def test_a_study_that_an_earlier_version_began_goes_on_by_what_is_written_now(tmp_path, dataset):
    """How a fit runs was a part of the space, and of the configurations of trials, then."""
    config = StudyConfig.model_validate({**dict(CONFIG), "fit": {"device": "cpu"}})
    now = StudyIdentity("study", "small", "sample", dataset.fingerprint, config.model_dump(mode="json"))
    was = {name: value for name, value in now.settings.items() if name != "fit"}
    was["space"] = {**was["space"], "device": "cpu"}
    first = begin(tmp_path, replace(now, settings=was))
    record = first.record()
    record.trial_started("a", 0, {"lambda_1": 1.0})
    record.trial_ended(TrialResult("a", 0, {"lambda_1": 1.0, "device": "cpu", "workers": 1}, (), "finished"))
    again = begin(tmp_path, now, resume="")
    assert again.path == first.path
    known = again.record()
    known.study_started(config, dataset, "small", {})
    assert dict(known.ended[0].config) == {"lambda_1": 1.0}
    cuda = StudyConfig.model_validate({**dict(CONFIG), "fit": {"device": "cuda"}})
    with pytest.raises(OtherStudyError, match=r"fit\.device was 'cpu' and is 'cuda'"):
        begin(tmp_path, replace(now, settings=cuda.model_dump(mode="json")), resume=first.id)


def test_an_interrupted_study_goes_on_in_its_folder_and_says_so(tmp_path):
    said = []
    first = begin(tmp_path, said=said)
    assert said == [f"what was done is kept; to go on: python job.py --resume {first.id}"]
    said.clear()
    again = begin(tmp_path, resume="", said=said)
    assert again.path == first.path
    assert again.resumed
    assert said[0].startswith(f"going on with {first.id}, begun ")
    named = begin(tmp_path, resume=first.id, fails=False)
    assert named.path == first.path
    assert len(Journal(first.path / "events.jsonl").read()) == 3


def caused(error, cause):
    """Return an error with a cause, as one that a worker raised has."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (DataFormatError("items.csv"), True),
        (UnmatchedItemsError("items.csv"), True),
        (EmptyDatasetError("no click"), True),
        (ConfigError("nothing to compare items by"), True),
        (SelectionError("None of the 4 trials finished"), True),
        (caused(StudyError("the winner"), caused(RuntimeError("worker"), ConfigError("no attribute"))), True),
        (FailureBudgetError("3 of 4 failed"), False),
        (SearchInterruptedError("Ctrl-C"), False),
        (CatalogTooLargeError("24 GiB"), False),
        (OutputError("disk full"), False),
        (KeyboardInterrupt(), False),
        (caused(StudyError("the winner"), RuntimeError("worker lost")), False),
    ],
)
def test_how_to_go_on_is_not_said_where_it_would_fail_again(tmp_path, error, again):
    said = []
    folder = begin(tmp_path, error=error, said=said)
    assert any("--resume would fail again" in line for line in said) == again
    assert any(f"to go on: python job.py --resume {folder.id}" in line for line in said) == (not again)
    assert (folder.manifest().get("failed") == str(error)) == again
    said.clear()
    begin(tmp_path, fails=False, said=said)
    assert any("--resume would go on with it" in line for line in said) == (not again)
    begin(tmp_path, resume=folder.id, fails=False)
    assert "failed" not in folder.manifest()


def test_a_study_that_has_come_to_its_end_is_not_gone_on_with(tmp_path):
    done = begin(tmp_path, fails=False)
    assert _unfinished_studies(tmp_path) == []
    with pytest.raises(StudyError, match=rf"{done.id} has come to its end"):
        begin(tmp_path, resume=done.id)
    said = []
    assert begin(tmp_path, resume="", said=said).path != done.path
    assert "a new one is started" in said[0]


def test_without_the_option_a_new_study_is_started_and_the_unfinished_one_is_named(tmp_path):
    first, said = begin(tmp_path), []
    second = begin(tmp_path, said=said)
    assert second.path != first.path
    assert f"{first.id} is the same study and unfinished; --resume would go on with it" in said[0]
    other = StudyIdentity("study", "small", "sample", "abcdef0123456789", {**SETTINGS, "cutoffs": [5]})
    said.clear()
    begin(tmp_path, other, said=said)
    assert not [message for message in said if "unfinished" in message]


def test_the_latest_of_several_is_gone_on_with(tmp_path):
    first, second = begin(tmp_path), begin(tmp_path)
    manifest = first.manifest()
    first.write({**manifest, "started": manifest["started"] - 60})
    assert begin(tmp_path, resume="").path == second.path


def test_the_study_of_these_data_is_gone_on_with_whatever_their_file_is_called(tmp_path):
    mine = begin(tmp_path)
    other = begin(tmp_path, changed(fingerprint="0123456789abcdef"))  # later, of other data in a file of that name
    renamed = changed(dataset="clicks-copy")
    assert begin(tmp_path, renamed, resume="").path == mine.path
    assert begin(tmp_path, renamed, resume=mine.id).path == mine.path
    assert begin(tmp_path, resume="").path == mine.path
    assert begin(tmp_path, changed(fingerprint="0123456789abcdef"), resume="").path == other.path
    settings = {**SETTINGS, "cutoffs": [5]}
    fewer = begin(tmp_path, changed(settings=settings))  # the latest of these data, with other settings
    assert begin(tmp_path, resume="").path == mine.path
    assert begin(tmp_path, changed(settings=settings), resume="").path == fewer.path


def test_studies_of_several_datasets_are_known_by_their_names(tmp_path):
    several = changed(kind="categories", fingerprint="", dataset="amazon")
    first = begin(tmp_path, several)
    assert begin(tmp_path, several, resume="").path == first.path
    said = []
    assert begin(tmp_path, changed(kind="categories", fingerprint="", dataset="yelp"), resume="", said=said) != first
    assert "no unfinished study" in said[0]


def changed(**fields):
    values = {"kind": "study", "name": "small", "dataset": "sample", "fingerprint": "abcdef0123456789"}
    return StudyIdentity(**{**values, "settings": SETTINGS, **fields})


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        (
            changed(settings={**SETTINGS, "space": {"lambda_1": {"choice": [1.0, 3.0]}}}),
            r"space\.lambda_1\.choice was \[1\.0, 2\.0\] and is \[1\.0, 3\.0\]",
        ),
        (changed(settings={**SETTINGS, "search": {"trials": 2, "seed": 7}}), r"search\.seed was 0 and is 7"),
        (
            changed(settings={**SETTINGS, "search": {"seed": 0, "trials": 2}}),
            r"search was \['trials', 'seed'\] and is \['seed', 'trials'\]",
        ),
        (
            changed(fingerprint="0123456789abcdef"),
            r"other data: .* was abcdef012345 and that of 'sample' is 0123456789",
        ),
    ],
)
def test_what_differs_is_named_and_nothing_is_lost(tmp_path, identity, expected):
    first = begin(tmp_path)
    before = (first.path / "events.jsonl").read_bytes()
    for resume in ("", first.id):
        with pytest.raises(OtherStudyError, match=f"{expected}.*without --resume"):
            begin(tmp_path, identity, resume)
    assert (first.path / "events.jsonl").read_bytes() == before


def test_another_schema_is_refused_with_the_version_that_goes_on(tmp_path):
    first = begin(tmp_path)
    first.write({**first.manifest(), "schema": 0, "coldray": "0.0.9"})
    with pytest.raises(OtherStudyError, match=r"coldray 0\.0\.9 with schema 0.*Go on with that version"):
        begin(tmp_path, resume=first.id)


def test_a_study_that_is_not_there_is_told_with_those_that_are(tmp_path):
    first = begin(tmp_path)
    with pytest.raises(StudyError, match=rf"no study 'absent' .*Unfinished ones: {first.id}"):
        begin(tmp_path, resume="absent")


def test_a_study_in_which_nothing_was_recorded_leaves_no_folder(tmp_path):
    def refused():
        with open_study(tmp_path, IDENTITY, resume=None):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        refused()
    assert list(tmp_path.iterdir()) == []


HOLD = """
import sys
from pathlib import Path
from coldray.experiments.record.folder import StudyFolder, locked
with locked(StudyFolder(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(path):
    """Let another process work on a study."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_file_system_without_locks_is_refused_and_told(tmp_path, monkeypatch, caplog):
    folder = StudyFolder(tmp_path / "study", resumed=False)
    folder.path.mkdir()

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    with locked(folder):
        assert folder.running()
    monkeypatch.setattr(fcntl, "flock", no_locks)
    told = r"cannot be locked \(No locks available\).*file system with locks"
    with pytest.raises(StudyError, match=told), locked(folder):
        pytest.fail("it was locked")
    assert folder.running() == ""
    assert "Nobody can tell whether a process works on study" in caplog.text


def test_who_may_only_read_is_told_who_works_on_a_study(tmp_path, monkeypatch):
    folder = StudyFolder(tmp_path / "study", resumed=False)
    folder.path.mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    with locked(folder):
        assert folder.running().startswith(f"process {os.getpid()} on ")
    assert folder.running() == ""


def test_two_processes_cannot_work_on_one_study_and_a_lock_goes_with_its_process(tmp_path):
    first = begin(tmp_path)
    with held(first.path) as other:
        assert re.fullmatch(rf"process {other.pid} on \S+", first.running())
        with pytest.raises(StudyLockedError, match=rf"being worked on by process {other.pid} on .*stop it first"):
            begin(tmp_path, resume=first.id)
    assert first.running() == ""
    begin(tmp_path, resume=first.id)


def fold(split, value):
    return FoldMetrics(42, split, {"ndcg@10": value}, 0.5)


def trial(number, *values, status="finished", error=None, lost=False):
    folds = tuple(fold(split, value) for split, value in enumerate(values))
    parameters = {"lambda_1": 1.0 + number}
    return TrialResult(trial_key(number, parameters), number, parameters, folds, status, error, 2.0, lost)


def report(record, one, *, ends=True):
    record.trial_started(one.trial_id, one.number, one.config)
    for count in range(1, len(one.folds) + 1):
        record.trial_reported(one.trial_id, one.folds[:count])
    if ends:
        record.trial_ended(one)


def test_a_record_is_read_back_as_it_was_told(tmp_path, dataset):
    record = StudyRecord(tmp_path / "events.jsonl", "s")
    record.study_started(CONFIG, dataset, "s", {})
    record.search_started(4, 2, "ndcg@10")
    done, pruned, failed = trial(0, 0.3, 0.4), trial(1, 0.1, status="pruned"), trial(2, status="failed", error="NaN")
    for one in (done, pruned, failed):
        report(record, one)
    report(record, trial(3, 0.2), ends=False)
    again = StudyRecord(tmp_path / "events.jsonl", "s")
    assert again.ended == {0: done, 1: pruned, 2: failed}
    assert again.folds[3] == [fold(0, 0.2)]
    assert again.parameters[3] == {"lambda_1": 4.0}
    again.trial_ended(done)
    again.trial_started(trial(3).trial_id, 3, {"lambda_1": 4.0})
    again.trial_reported(trial(3).trial_id, [fold(0, 0.2), fold(1, 0.5)])
    records = Journal(tmp_path / "events.jsonl").read()
    assert sum(one["event"] == "trial_ended" for one in records) == 3
    assert [one["split"] for one in records if one["event"] == "split" and one["trial"] == 3] == [0, 1]
    for one in records:
        assert one["study"] == "s"
        assert one["time"] > 0
        if one["event"] == "split":
            assert {"trial", "key", "seed", "split", "metrics", "seconds"} <= set(one)


def test_a_lost_trial_is_run_again_with_the_splits_it_had_done(tmp_path):
    record = StudyRecord(tmp_path / "events.jsonl", "s")
    report(record, trial(0, 0.3, status="failed", error="the worker was lost", lost=True))
    again = StudyRecord(tmp_path / "events.jsonl", "s")
    assert again.ended == {}
    assert again.folds[0] == [fold(0, 0.3)]
    report(again, trial(0, 0.3, 0.5))
    assert StudyRecord(tmp_path / "events.jsonl", "s").ended == {0: trial(0, 0.3, 0.5)}


def test_a_record_of_other_data_is_refused(tmp_path, dataset):
    record = StudyRecord(tmp_path / "events.jsonl", "s")
    record.study_started(CONFIG, dataset, "s", {})
    again = StudyRecord(tmp_path / "events.jsonl", "s")
    again.study_started(CONFIG, dataset, "s", {})
    with pytest.raises(OtherStudyError, match="other data"):
        again.study_started(CONFIG, sample_dataset(1, 60, 40), "s", {})


def test_a_damaged_record_is_told_and_left_as_it_is(tmp_path):
    record = StudyRecord(tmp_path / "events.jsonl", "s")
    report(record, trial(0, 0.3, 0.4))
    content = (tmp_path / "events.jsonl").read_bytes().replace(b"0.3", b"0.9", 1)
    (tmp_path / "events.jsonl").write_bytes(content)
    with pytest.raises(JournalError, match="Line 2 of"):
        StudyRecord(tmp_path / "events.jsonl", "s")
    assert (tmp_path / "events.jsonl").read_bytes() == content


def test_stages_say_what_they_took(tmp_path, dataset):
    record = StudyRecord(tmp_path / "events.jsonl", "s")
    record.stage("preparing")
    sum(range(10**6))
    record.search_started(1, 1, "ndcg@10")
    (stage,) = [one for one in Journal(tmp_path / "events.jsonl").read() if one["event"] == "stage"]
    assert stage["stage"] == "preparing"
    assert 0 < stage["cpu_seconds"] <= stage["seconds"] + 0.1
    assert stage["peak_bytes"] > 10**7


def test_the_stage_of_a_search_has_what_its_workers_used(tmp_path):
    record = StudyRecord(tmp_path / "events.jsonl", "s")
    record.search_started(2, 2, "ndcg@10")
    folds = [FoldMetrics(42, split, {"ndcg@10": 0.3}, 9.0, 5.0 + split, 10**12 - split) for split in range(2)]
    record.trial_started("t", 0, {})
    record.trial_reported("t", folds[:1])
    record.trial_reported("t", folds)
    record.search_ended()
    record.stage("testing")
    record.finished()
    searching, testing = [one for one in Journal(tmp_path / "events.jsonl").read() if one["event"] == "stage"]
    assert (searching["stage"], searching["peak_bytes"]) == ("searching", 10**12)
    assert 11.0 <= searching["cpu_seconds"] < 12.0
    assert testing["cpu_seconds"] < 1
    assert testing["peak_bytes"] < 10**12
    again = StudyRecord(tmp_path / "events.jsonl", "s")
    assert again.folds[0] == folds, "they are known again with what they used"


def test_the_state_of_a_study_is_what_its_record_says(tmp_path, dataset):
    path = tmp_path / "events.jsonl"
    record = StudyRecord(path, "s")
    record.study_started(CONFIG, dataset, "s", {})
    assert search_state(Journal(path).read(), working=True) is None
    record.search_started(6, 2, "ndcg@10")
    for one in (trial(0, 0.3, 0.4), trial(1, 0.5, 0.4), trial(2, status="failed", error="E: NaN")):
        report(record, one)
    report(record, trial(3, 0.2, status="failed", error="lost", lost=True))
    report(record, trial(4, 0.1), ends=False)
    records = Journal(path).read()
    begun = next(one["time"] for one in records if one["event"] == "search_started")
    state = search_state(records, working=True, now=begun + 8.0)
    assert (state.n_trials, state.n_splits, len(state.ended), state.lost, state.processes) == (6, 2, 3, 1, 1)
    assert [state.count(status) for status in ("finished", "pruned", "failed")] == [2, 0, 1]
    assert [(number, round(mean, 6)) for number, mean, _ in state.best()] == [(1, 0.45), (0, 0.35)]
    assert state.running == {4: 1}
    assert state.seconds_left == pytest.approx(3 * 8.0 / 4)
    assert search_state(records, working=False).running == {}
    again = StudyRecord(path, "s")
    again.study_started(CONFIG, dataset, "s", {})
    again.search_started(6, 2, "ndcg@10")
    state = search_state(Journal(path).read(), working=True)
    assert (state.processes, state.seconds_left, dict(state.running)) == (2, None, {})


def test_a_manifest_can_be_read_by_others(tmp_path):
    manifest = json.loads((begin(tmp_path).path / "study.json").read_text())
    assert manifest["settings"] == SETTINGS
    assert manifest["command"] == ["python", "job.py"]
