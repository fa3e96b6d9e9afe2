"""Where dense linear algebra runs: LAPACK on the CPU, or torch on a CUDA device, with the same numbers.

torch takes two seconds to load in each worker of a study, so it is loaded where it is used, and while the worker waits.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib import import_module
from threading import Thread
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.linalg
from threadpoolctl import threadpool_limits

from coldray.core.errors import ConfigError, SingularMatrixError

DeviceName: TypeAlias = Literal["auto", "cpu", "cuda"]
Device: TypeAlias = Literal["cpu", "cuda"]
Matrix: TypeAlias = npt.NDArray[np.float32]
_DRIVERS = ("libcuda.so.1", "libamdhip64.so")
"""What torch needs to find a device: the driver of NVIDIA, or the runtime of AMD."""
_WIDE = 4096
"""Rows from which a decomposition is worth all CPUs. Threads of LAPACK spin while they wait for each other: beside
other work two of them took ten times the processor time of one for 1,000 rows, and six times for 2,600."""


def resolve_device(name: DeviceName) -> Device:
    """Return the device to use; ``auto`` takes CUDA when there is one.

    Raises
    ------
    ConfigError
        If CUDA is asked for and absent.
    """
    if name == "cpu" or (name == "auto" and not has_driver()):
        return "cpu"
    import torch

    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise ConfigError("device is 'cuda', but torch finds no CUDA device. Use device='auto' or 'cpu'.")
    return "cuda" if found else "cpu"


@cache
def has_driver() -> bool:
    """Return whether this machine has what a CUDA device needs; without it there is no need to ask torch."""
    for library in _DRIVERS:
        try:
            ctypes.CDLL(library)
            return True
        except OSError:
            continue
    return False


def load_torch_aside() -> None:
    """Begin to load torch in a thread; who imports it meanwhile waits for that thread."""
    if "torch" not in sys.modules:
        Thread(target=import_module, args=("torch",)).start()


def cpu_count() -> int:
    """Return the CPUs this process may run on; those of the machine where the system does not say, as macOS."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def matmul(left: npt.NDArray[Any], right: npt.NDArray[Any], device: Device) -> Matrix:
    """Return the float32 product of two dense matrices."""
    if device == "cpu":
        return np.asarray(left @ right, np.float32)
    import torch

    product = torch.from_numpy(np.array(left)).to(device) @ torch.from_numpy(np.array(right)).to(device)
    result: Matrix = product.float().cpu().numpy()
    return result


def eigen_threads(n_rows: int) -> AbstractContextManager[object]:
    """Let the decomposition of a large matrix have all CPUs; a small one keeps the threads that the process has.

    Ray gives a task one thread, while the trials that wait for what they share leave their CPUs idle.
    """
    return threadpool_limits(cpu_count(), user_api="blas") if n_rows >= _WIDE else nullcontext()


def symmetric_eigen(
    matrix: npt.NDArray[np.float64], device: Device
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return eigenvalues (ascending) and eigenvectors of a symmetric float64 matrix, which is overwritten.

    On the CPU it takes 24 bytes for each of its cells, its own 8 among them.

    Raises
    ------
    SingularMatrixError
        If the decomposition does not converge, which NaN or infinite entries cause.
    """
    try:
        if device == "cpu":
            # A symmetric matrix is its transpose: in LAPACK's order it is overwritten, in the other one it is copied.
            own = matrix if matrix.flags.f_contiguous else matrix.T
            values, vectors = scipy.linalg.eigh(own, overwrite_a=True, check_finite=False, driver="evd")
            return values, vectors
        import torch

        on_device = torch.linalg.eigh(torch.from_numpy(matrix).to(device))
        return on_device[0].cpu().numpy(), on_device[1].cpu().numpy()
    except (np.linalg.LinAlgError, RuntimeError) as error:
        raise SingularMatrixError(f"The eigendecomposition of a {matrix.shape} matrix failed: {error}.") from error
