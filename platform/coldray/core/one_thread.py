"""One thread of torch for what threads of our own do side by side.

torch lets a team of threads meet at the end of every operation. Where an algorithm is many short operations, and where
its callers are threads already, whose teams would take the cores from each other, each meeting can cost a time slice of
a busy machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@cache
def _libraries() -> ThreadpoolController:
    """Return the libraries with threads that are loaded: asked for once torch is, or its own would be missed."""
    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute by one thread in the calling thread, and in no other, while the context lasts."""
    import torch

    torch.get_num_threads()  # torch sets a thread up when it is first used there, and would undo what was set before
    with _libraries().limit(limits=1, user_api="openmp"):
        yield
