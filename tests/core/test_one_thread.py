"""One thread of torch: in the calling thread, and there alone."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from coldray.core.one_thread import one_thread


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def threads_inside():
    with one_thread():
        return torch.get_num_threads()


def test_torch_has_one_thread_inside_and_its_own_after(three_threads):
    assert threads_inside() == 1
    assert torch.get_num_threads() == 3


def test_a_new_thread_has_one_too_and_leaves_the_others_theirs(three_threads):
    with ThreadPoolExecutor(1) as pool, one_thread():
        assert pool.submit(threads_inside).result() == 1
        assert pool.submit(torch.get_num_threads).result() == 3


def test_it_is_one_thread_where_torch_is_loaded_after_this_module():
    program = (
        "from coldray.core.one_thread import one_thread\n"
        "import sys, torch\n"
        "torch.set_num_threads(3)\n"
        "with one_thread():\n"
        "    inside = torch.get_num_threads()\n"
        "sys.exit((inside, torch.get_num_threads()) != (1, 3))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=120).returncode == 0
