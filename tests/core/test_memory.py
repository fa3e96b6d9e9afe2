"""The memory there is, and the refusal of what does not fit in it."""

import math
import re
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.core import memory
from coldray.core.errors import CatalogTooLargeError
from coldray.core.memory import GIB, _available_bytes, most_that_fit, require_memory

MACHINE = 8 * GIB


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=MACHINE))


@pytest.fixture(autouse=True)
def no_container(monkeypatch, tmp_path_factory):
    monkeypatch.setattr(memory, "_CGROUP", tmp_path_factory.mktemp("no container"))


def version_1(folder, limit, usage, cached=0):
    (folder / "memory").mkdir()
    (folder / "memory" / "memory.stat").write_text(f"inactive_file 1\ntotal_cache 9\ntotal_inactive_file {cached}\n")
    (folder / "memory" / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory" / "memory.usage_in_bytes").write_text(f"{usage}\n")
    return folder


def version_2(folder, limit, usage, cached=0):
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\nactive_file 7\n")
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
    assert _available_bytes(version(tmp_path, limit, usage)) == expected


@pytest.mark.parametrize("version", [version_1, version_2])
def test_files_that_the_kernel_keeps_cached_are_not_in_the_way(tmp_path, version):
    assert _available_bytes(version(tmp_path, 5 * GIB, 4 * GIB, cached=2 * GIB)) == 3 * GIB


def test_a_container_that_tells_nothing_of_its_files_is_taken_by_its_usage(tmp_path):
    version_2(tmp_path, 5 * GIB, 4 * GIB)
    for facts in ("anon 5\n", "inactive_file\n", "inactive_file none\n"):
        (tmp_path / "memory.stat").write_text(facts)
        assert _available_bytes(tmp_path) == GIB
    (tmp_path / "memory.stat").unlink()
    assert _available_bytes(tmp_path) == GIB


def test_without_a_container_the_machine_decides(tmp_path):
    assert _available_bytes(tmp_path) == MACHINE
    assert _available_bytes(tmp_path / "absent") == MACHINE


def test_a_limit_without_a_usage_is_none(tmp_path):
    (tmp_path / "memory.max").write_text(str(GIB))
    assert _available_bytes(tmp_path) == MACHINE


def test_the_newer_version_is_read_first(tmp_path):
    version_1(tmp_path, 7 * GIB, GIB)
    assert _available_bytes(version_2(tmp_path, 3 * GIB, GIB)) == 2 * GIB


def test_this_machine_has_memory(monkeypatch):
    monkeypatch.undo()
    assert 0 < _available_bytes() <= psutil.virtual_memory().total


def test_what_fits_is_allowed():
    assert require_memory(3 * GIB, purpose="A matrix", way_out="Use less.", available=3 * GIB) is None


def test_what_does_not_fit_is_refused_with_need_limit_and_way_out():
    with pytest.raises(CatalogTooLargeError) as caught:
        require_memory(
            3 * GIB + GIB // 2, purpose="EASE on 60,000 items", way_out="Use fewer items.", available=3 * GIB
        )
    assert str(caught.value) == "EASE on 60,000 items needs 3.5 GiB of memory; 3.0 GiB is free. Use fewer items."


@pytest.mark.parametrize(
    ("usage", "words"), [(2 * GIB, "3.0 GiB is free of the container's 5.0 GiB. Use"), (0, "4.0 GiB is free. Use")]
)
def test_a_container_that_sets_the_limit_is_named(tmp_path, monkeypatch, usage, words):
    monkeypatch.setattr(memory, "_CGROUP", version_2(tmp_path, 5 * GIB, usage))
    monkeypatch.setattr(memory, "_available_bytes", lambda: min(_available_bytes(tmp_path), 4 * GIB))
    with pytest.raises(CatalogTooLargeError) as caught:
        require_memory(9 * GIB, purpose="A matrix", way_out="Use less.")
    assert str(caught.value).startswith(f"A matrix needs 9.0 GiB of memory; {words}")


@pytest.mark.parametrize(
    ("free", "words"),
    [
        (3 * GIB, f", enough for {math.isqrt(3 * GIB // 28):,} items."),
        (32 * 28, ", enough for 5 items."),
        (28, ", enough for 1 item."),
        (27, "."),
    ],
)
def test_how_many_items_fit_is_told(free, words):
    with pytest.raises(CatalogTooLargeError, match=re.escape(f"{free / GIB:,.1f} GiB is free{words} Use")):
        require_memory(
            28 * 60_000**2,
            purpose="EASE on 60,000 items",
            way_out="Use fewer items.",
            available=free,
            need_of_items=lambda count: 28 * count**2,
            n_items=60_000,
        )


@given(free=st.integers(0, 10**7), power=st.sampled_from([1, 2, 3]), limit=st.integers(1, 10**4))
def test_the_most_that_fits_fits_and_one_more_does_not(free, power, limit):
    most = most_that_fit(lambda count: 3 * count**power, free, limit)
    assert 0 <= most < limit
    assert 3 * most**power <= free
    assert most + 1 == limit or 3 * (most + 1) ** power > free


def test_the_machine_is_asked_unless_told(monkeypatch):
    monkeypatch.setattr(memory, "_available_bytes", lambda: 10)
    require_memory(10, purpose="It", way_out="None.")
    with pytest.raises(CatalogTooLargeError):
        require_memory(11, purpose="It", way_out="None.")
