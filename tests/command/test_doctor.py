"""What is found on a machine, and the status it ends with."""

import os
import subprocess
import sys

import pytest

from coldray.command import doctor
from coldray.command.doctor import _cpu_quota, _data, _disk, _mlflow, _store, _versions
from coldray.core.memory import GIB

CHECKS = ("versions", "CPUs", "memory", "BLAS", "GPU", "data", "disk", "MLflow", "store", "Ray")
WELL = {"MLFLOW_TRACKING_URI": "", "RAY_ADDRESS": "", "COLDRAY_DATA": ""}
ILL = {
    "MLFLOW_TRACKING_URI": "http://me:geheim@127.0.0.1:9",
    "RAY_ADDRESS": "127.0.0.1:1",
    "COLDRAY_DATA": "/nowhere",
}


@pytest.mark.parametrize(("variables", "status"), [(WELL, 0), (ILL, 1)])
def test_every_check_answers_and_nothing_is_written(tmp_path, variables, status):
    done = subprocess.run(
        [sys.executable, "-m", "coldray", "doctor"],
        cwd=tmp_path,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = [line.split() for line in done.stdout.splitlines()[1:]]
    assert done.returncode == status, done.stdout + done.stderr
    assert list(dict.fromkeys(line[1] for line in lines)) == list(CHECKS)
    problems = {line[1] for line in lines if line[0] == "problem"}
    assert problems == ({"data", "MLflow", "Ray"} if status else set())
    assert "geheim" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def levels(found):
    return [one.level for one in found]


def test_a_package_of_another_version_is_a_problem_with_the_command_that_mends_it(monkeypatch):
    monkeypatch.setattr(
        doctor, "requires", lambda _: ["numpy>=99", "nothing-of-the-kind", "scipy", "x>1; extra == 'y'"]
    )
    problems = [one.told for one in _versions() if one.level == "problem"]
    assert len(problems) == 2
    assert problems[0].endswith("is installed. Run: pip install 'numpy>=99'")
    assert "none is installed" in problems[1]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4.0),
    ],
)
def test_the_time_a_container_may_take(tmp_path, files, expected):
    (tmp_path / "cpu").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(f"{content}\n")
    assert _cpu_quota(tmp_path) == expected


def test_a_disk_that_is_full_or_closed_is_told(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 2 * GIB, "used": 0, "total": 100 * GIB})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    assert levels(_disk(tmp_path)) == ["warning", "warning"]
    usage.free = GIB // 2
    assert levels(_disk(tmp_path)) == ["problem", "problem"]
    assert not (tmp_path / "runs").exists()
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert all("cannot be written" in one.told for one in _disk(tmp_path / "runs"))


def test_a_store_is_looked_at_and_not_made(tmp_path):
    assert levels(_store(f"sqlite:///{tmp_path / 'serving.db'}")) == ["ok"]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "serving.db").write_bytes(b"no database at all, but long enough for a head" * 10)
    (found,) = _store(f"sqlite:///{tmp_path / 'serving.db'}")
    assert found.level == "problem"
    assert "is not a database" in found.told
    assert levels(_store("no address")) == ["problem"]


def test_a_tracking_database_that_is_there_is_used(tracking_uri):
    (found,) = _mlflow(tracking_uri)
    assert found.level == "ok"
    assert found.told.endswith("can be used")


def test_a_data_folder_that_is_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("COLDRAY_DATA", str(tmp_path))
    assert [one.told for one in _data()] == [f"COLDRAY_DATA is {tmp_path}"]
