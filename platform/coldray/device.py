"""Where dense linear algebra runs: LAPACK on the CPU, or torch on a CUDA device, with the same numbers."""

from __future__ import annotations

import os
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.linalg
import torch

from coldray.errors import ConfigError, SingularMatrixError

DeviceName: TypeAlias = Literal["auto", "cpu", "cuda"]
Matrix: TypeAlias = npt.NDArray[np.float32]


def resolve_device(name: DeviceName) -> torch.device:
    """Return the device to use; ``auto`` takes CUDA when there is one.

    Raises
    ------
    ConfigError
        If CUDA is asked for and absent.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but torch finds no CUDA device. Use device='auto' or 'cpu'.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def cpu_count() -> int:
    """Return the CPUs this process may run on."""
    return len(os.sched_getaffinity(0))


def matmul(left: npt.NDArray[Any], right: npt.NDArray[Any], device: torch.device) -> Matrix:
    """Return the float32 product of two dense matrices."""
    if device.type == "cpu":
        return np.asarray(left @ right, np.float32)
    product = torch.from_numpy(np.array(left)).to(device) @ torch.from_numpy(np.array(right)).to(device)
    result: Matrix = product.float().cpu().numpy()
    return result


def symmetric_eigen(
    matrix: npt.NDArray[np.float64], device: torch.device
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return eigenvalues (ascending) and eigenvectors of a symmetric float64 matrix, which is overwritten.

    Raises
    ------
    SingularMatrixError
        If the decomposition does not converge, which NaN or infinite entries cause.
    """
    try:
        if device.type == "cpu":
            values, vectors = scipy.linalg.eigh(matrix, overwrite_a=True, check_finite=False, driver="evd")
            return values, vectors
        on_device = torch.linalg.eigh(torch.from_numpy(matrix).to(device))
        return on_device[0].cpu().numpy(), on_device[1].cpu().numpy()
    except (np.linalg.LinAlgError, RuntimeError) as error:
        raise SingularMatrixError(f"The eigendecomposition of a {matrix.shape} matrix failed: {error}.") from error
