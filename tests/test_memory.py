"""The memory there is, and the refusal of what does not fit in it."""

from types import SimpleNamespace

import psutil
import pytest

from coldray import memory
from coldray.errors import CatalogTooLargeError
from coldray.memory import GIB, available_bytes, require_memory

MACHINE = 8 * GIB


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=MACHINE))


def version_1(folder, limit, usage):
    (folder / "memory").mkdir()
    (folder / "memory" / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory" / "memory.usage_in_bytes").write_text(f"{usage}\n")
    return folder


def version_2(folder, limit, usage):
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{usage}\n")
    return folder


@pytest.mark.parametrize("version", [version_1, version_2])
@pytest.mark.parametrize(
    ("limit", "usage", "expected"),
    [
        (5 * GIB, 2 * GIB, 3 * GIB),
        (5 * GIB, 6 * GIB, 0),
        (20 * GIB, GIB, MACHINE),
        (2**63 - 4096, GIB, MACHINE),
        ("max", GIB, MACHINE),
        ("", GIB, MACHINE),
    ],
)
def test_a_container_leaves_its_limit_less_what_it_uses(tmp_path, version, limit, usage, expected):
    assert available_bytes(version(tmp_path, limit, usage)) == expected


def test_without_a_container_the_machine_decides(tmp_path):
    assert available_bytes(tmp_path) == MACHINE
    assert available_bytes(tmp_path / "absent") == MACHINE


def test_a_limit_without_a_usage_is_none(tmp_path):
    (tmp_path / "memory.max").write_text(str(GIB))
    assert available_bytes(tmp_path) == MACHINE


def test_the_newer_version_is_read_first(tmp_path):
    version_1(tmp_path, 7 * GIB, GIB)
    assert available_bytes(version_2(tmp_path, 3 * GIB, GIB)) == 2 * GIB


def test_this_machine_has_memory(monkeypatch):
    monkeypatch.undo()
    assert 0 < available_bytes() <= psutil.virtual_memory().total


def test_what_fits_is_allowed():
    assert require_memory(3 * GIB, purpose="A matrix", way_out="Use less.", available=3 * GIB) is None


def test_what_does_not_fit_is_refused_with_need_limit_and_way_out():
    with pytest.raises(CatalogTooLargeError) as caught:
        require_memory(
            3 * GIB + GIB // 2, purpose="EASE on 60,000 items", way_out="Use fewer items.", available=3 * GIB
        )
    assert str(caught.value) == "EASE on 60,000 items needs 3.5 GiB of memory; 3.0 GiB is free. Use fewer items."


def test_the_machine_is_asked_unless_told(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 10)
    require_memory(10, purpose="It", way_out="None.")
    with pytest.raises(CatalogTooLargeError):
        require_memory(11, purpose="It", way_out="None.")
