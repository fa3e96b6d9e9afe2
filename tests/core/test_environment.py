import ast
import os
import subprocess
import sys

import pytest

from coldray.core.environment import variable
from coldray.data.sources.locations import data_root
from contracts.jobs import ROOT, options_of


@pytest.mark.parametrize(("value", "expected"), [(None, "x"), ("", "x"), (" \t", "x"), (" a b ", "a b")])
def test_an_empty_variable_is_none(value, expected, monkeypatch):
    monkeypatch.delenv("COLDRAY_TEST", raising=False)
    if value is not None:
        monkeypatch.setenv("COLDRAY_TEST", value)
    assert variable("COLDRAY_TEST", "x") == expected


def test_options_and_folders_take_an_empty_variable_for_none(monkeypatch):
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "COLDRAY_DATA"):
        monkeypatch.setenv(name, "")
    options = options_of("tune", "marec")
    assert (options.ray_address, options.tracking_uri) == ("local", "sqlite:///mlflow.db")
    assert data_root(None) is None


def test_the_environment_is_read_in_one_place():
    """`os.environ.get(name, default)` takes an empty variable for a value."""
    reading = []
    for path in (ROOT / "platform" / "coldray").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            read = isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load)
            place = node.value if read else node.func if isinstance(node, ast.Call) else None
            if place is not None and ast.unparse(place) in ("os.environ", "os.environ.get", "os.getenv"):
                reading.append(path.name)
    assert reading == ["environment.py"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "10000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, "None"),
        ({"OMP_WAIT_POLICY": ""}, "10000"),
    ],
)
def test_waiting_threads_leave_the_core_soon_unless_told_otherwise(given, expected):
    """The package says it when it is loaded, which is before it loads torch."""
    outside = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    lines = "import os, sys, coldray; assert 'torch' not in sys.modules; print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run(
        [sys.executable, "-c", lines], env={**outside, **given}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected
