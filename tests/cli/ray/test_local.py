"""Ray on this machine, whatever folders are called: of the project, of the user, of temporary files."""

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.cli.ray import local as local_ray
from coldray.cli.ray.local import _LONGEST_SOCKET, _SOCKET_BYTES, ray_folder, readable_commands, worker_environment
from coldray.core.errors import ClusterError
from contracts.jobs import ROOT, end

pytestmark = pytest.mark.long
ODD = "it's (b) & $HOME é#100%;\\n `x` *"
NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=30)


@pytest.fixture
def no_fallback(monkeypatch):
    monkeypatch.setattr(local_ray, "_FALLBACKS", ())
    for name in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def short():
    """A folder with a path shorter than those that pytest makes."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def test_rays_own_folder_comes_first_and_belongs_to_the_user(short, monkeypatch, no_fallback):
    monkeypatch.setenv("TMPDIR", str(short / "other"))
    monkeypatch.setenv("RAY_TMPDIR", str(short))
    folder, note = ray_folder()
    assert folder == short / f"coldray-{os.geteuid()}" / "ray"
    assert note == ""
    assert folder.parent.stat().st_mode & 0o077 == 0
    monkeypatch.setenv("RAY_TMPDIR", " ")
    monkeypatch.setenv("TMPDIR", str(short))
    assert ray_folder() == (folder, "")


@pytest.mark.parametrize("character", ["x", "é"])
def test_a_folder_too_long_for_sockets_is_left_for_a_short_one(character, tmp_path, monkeypatch):
    long = tmp_path / (character * 40) / (character * 40)
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    monkeypatch.delenv("TMPDIR", raising=False)
    folder, note = ray_folder()
    assert folder.is_relative_to("/tmp")
    assert not long.exists()
    assert str(long) in note
    assert f"{_SOCKET_BYTES} are allowed" in note
    assert len(os.fsencode(folder.parent)) + len(_LONGEST_SOCKET) <= _SOCKET_BYTES


@pytest.mark.usefixtures("no_fallback")
@pytest.mark.parametrize("problem", ["another user", "no folder", "full"])
def test_a_folder_that_will_not_do_is_told_with_the_way_out(problem, short, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(short))
    expected = {"another user": "of another user", "no folder": "cannot be written", "full": "MiB left"}[problem]
    if problem == "another user":
        own = short / f"coldray-{os.geteuid()}"
        own.mkdir()
        if os.geteuid() != 0:
            pytest.skip("a folder is given away by root alone")
        os.chown(own, 65534, 65534)
    elif problem == "no folder":
        (short / "file").touch()
        monkeypatch.setenv("TMPDIR", str(short / "file"))
    else:
        monkeypatch.setattr(local_ray, "_LEAST_FREE", 2**80)
    with pytest.raises(ClusterError, match=f"{expected}.*Set RAY_TMPDIR"):
        ray_folder()


@given(st.lists(NAMES, min_size=1))
def test_commands_are_read_as_they_were_written(words):
    """Whatever is in a path; Ray's own form, that of Windows, is another one for quotes and backslashes."""
    before = subprocess.list2cmdline
    with readable_commands():
        assert shlex.split(subprocess.list2cmdline(words)) == words
    assert subprocess.list2cmdline is before


@given(NAMES)
def test_the_python_of_workers_is_one_word_of_a_shell(name):
    python = f"/home/{name}/.venv/bin/python"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", python)
        assert shlex.split(worker_environment().get("py_executable", python)) == [python]


def test_nothing_changes_where_the_path_is_plain(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/home/ada/coldray/.venv/bin/python")
    assert worker_environment() == {}


def light_project(folder):
    """Make a project at `folder` whose Python finds all packages below it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / ".venv")], check=True)
    (packages,) = (folder / ".venv").glob("lib/python*/site-packages")
    found = [Path(entry) for entry in sys.path if "site-packages" in entry or entry == str(ROOT / "platform")]
    links = [folder / f"packages-{number}" for number in range(len(found))]
    for link, target in zip(links, found, strict=True):
        link.symlink_to(target)
    (packages / "light.pth").write_text("".join(f"{link}\n" for link in links), encoding="utf-8")
    for name in ("jobs", "tune_spaces"):
        (folder / name).symlink_to(ROOT / name)
    return folder / ".venv" / "bin" / "python"


def test_a_study_runs_in_a_project_folder_of_any_name(tmp_path):
    root = tmp_path / ODD
    for name in ("home", "t", "project"):
        (root / name).mkdir(parents=True)
    python = light_project(root / "project")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(root / "home"), "TMPDIR": str(root / "t")}
    environment |= {"RAY_TMPDIR": "", "RAY_ADDRESS": "", "MLFLOW_TRACKING_URI": "", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [python, "jobs/tune_marec.py", "--cpus", "2", "--set", "search.trials=1", "--set", "splits.n_splits=1"]
    log = root / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=root / "project",
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            assert process.wait(280) == 0, log.read_text()
        finally:
            end(process)
    printed = log.read_text()
    assert "1 finished" in printed
    assert "Traceback" not in printed
    assert list((root / "project" / "mlartifacts").glob("**/bundle/manifest.json")), printed
    assert list((root / "project" / "runs").glob("marec-sample-*/bundle/manifest.json"))
