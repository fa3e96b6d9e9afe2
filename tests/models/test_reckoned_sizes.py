"""What large fits are reckoned to take, in bytes and seconds: forms are chosen by it, and fits are refused by it."""

import numpy as np
import pytest

from coldray.core.errors import CatalogTooLargeError
from coldray.core.memory import GIB
from coldray.models.forms import StudyOutlook
from coldray.models.kernel_align.form import _exact_seconds, exact_bytes, inducing_bytes, most_that_fits
from coldray.models.kernel_align.model import KernelAlign, KernelAlignConfig
from coldray.models.kernel_align.posterior import fit_bytes, kernel_bytes, kernel_matrices
from coldray.models.linalg.singular import solver_bytes
from coldray.models.linalg.solver_costs import FitsOfAMatrix, ease_seconds, marec_seconds
from coldray.models.linear.ease import EASE, EASEConfig
from coldray.models.linear.ease_blocks import block_bytes
from coldray.models.marec.cold_elimination import _elimination_bytes
from coldray.models.marec.model import MARec, MARecConfig
from coldray.models.neighbours.content import ContentKNN
from coldray.models.neighbours.item import counting_bytes
from coldray.training.options import FitConfig
from contracts.problems import random_training_set

FITS = FitsOfAMatrix(matrices=9, fits=3, ridges=3)


@pytest.mark.parametrize("model", [MARec, ContentKNN, KernelAlign])
def test_citeulike_is_fitted_exactly_in_24_gib(model):
    """7,947 users and 25,975 articles, whatever the attributes."""
    config, forms = model.settle(model.config_type(), StudyOutlook(7947, 25_975, 24 * GIB))
    assert all(form.exact for form in forms)
    assert 0 < model(config).memory_bytes(7947, 25_975) < 24 * GIB


@pytest.mark.parametrize(
    ("solver", "lambda_0", "gigabytes"),
    [
        ("exact", 0.0, 14.0),
        ("users", 0.0, 11.65),
        ("cholesky", 0.0, 12.0),
        ("cholesky", 0.5, 14.4),
        ("exact", 0.5, 26.8),
    ],
)
def test_memory_of_marec_on_15_000_users_and_20_000_items(solver, lambda_0, gigabytes):
    model = MARec(MARecConfig(solver=solver, lambda_0=lambda_0))
    assert model.memory_bytes(15_000, 20_000) == gigabytes * 10**9


def test_memory_of_ease_on_20_000_items():
    assert EASE(EASEConfig(solver="exact")).memory_bytes(2000, 20_000) == 13.6e9
    assert block_bytes(2000, 20_000, 1000) - counting_bytes(2000, 20_000) == 508e6
    assert EASE(EASEConfig()).memory_bytes(2000, 20_000) == block_bytes(2000, 20_000, 1000)


@pytest.mark.parametrize(("shape", "count", "megabytes"), [((100_000, 1000), 64, 127.424), ((9000, 9000), 64, 36.864)])
def test_memory_of_singular_vectors_by_a_gram_matrix_and_by_lanczos(shape, count, megabytes):
    assert solver_bytes(shape, count) == solver_bytes(shape[::-1], count) == round(megabytes * 10**6)


def test_memory_of_cold_items_and_of_the_learned_kernel():
    assert _elimination_bytes(8400, 2800) == 2_007_040_000
    assert inducing_bytes(40_000, 1500) == 1_050_000_000
    assert inducing_bytes(1000, 1500) == 56 * 1000**2  # there are no more inducing items than items


def factor(n):
    """Return how many numbers of a factor are held, row by row: from the first column of its panel of 1,024 on."""
    return sum(1024 * (row // 1024) + min(1024, n - row // 1024 * 1024) for row in range(n))


@pytest.mark.parametrize(("n_warm", "size"), [(300, 8), (1024, 8), (1025, 8), (8192, 8), (8193, 4), (20_000, 4)])
def test_memory_of_the_exact_learned_kernel_is_its_factor_its_weights_and_five_panels(n_warm, size):
    panels = 5 * 4 * n_warm * min(n_warm, 1024)
    assert fit_bytes(n_warm, 70) == size * factor(n_warm) + 4 * n_warm * 70 + panels
    assert fit_bytes(n_warm, 70, 2) == 2 * factor(n_warm) + 4 * n_warm * 70 + panels


@pytest.mark.parametrize(("n_users", "n_items"), [(5500, 40_000), (2000, 3000), (9000, 12_000), (50, 600)])
def test_memory_of_the_exact_learned_kernel_is_that_of_the_share_of_warm_items_that_needs_most(n_users, n_items):
    def need(n_warm):
        smoothing = 4 * factor(min(n_users, n_warm)) + (4 * n_warm**2 if n_warm <= min(8192, n_users) else 0)
        return fit_bytes(n_warm, n_items - n_warm) + smoothing + 4 * n_warm * (n_items - n_warm)

    most = max(need(n_items), need(int(n_items * 2 / 3)), need(int(n_items / 2)))
    assert exact_bytes(n_users, n_items) == most
    assert KernelAlign(KernelAlignConfig(form="exact")).memory_bytes(n_users, n_items) == most
    through = KernelAlign(KernelAlignConfig(form="inducing", inducing=400)).memory_bytes(n_users, n_items)
    assert through == 16 * n_items * 400 + 40 * 400**2
    smaller = min(most, inducing_bytes(n_items, KernelAlignConfig().n_inducing))
    assert KernelAlign(KernelAlignConfig()).memory_bytes(n_users, n_items) == smaller
    assert KernelAlign(KernelAlignConfig(exact_items=n_items - 1, inducing=400)).memory_bytes(n_users, n_items) == (
        through
    )


def test_as_many_inducing_items_are_taken_as_fit_in_memory():
    def most(memory, wanted=500):
        return most_that_fits(wanted, StudyOutlook(1000, 9000, memory))

    assert [most(inducing_bytes(9000, count)) for count in (1, 7, 499, 500, 501)] == [1, 7, 499, 500, 500]
    assert [most(inducing_bytes(9000, count) - 1) for count in (1, 7, 500)] == [1, 6, 499]


def test_memory_of_the_kernels_is_that_of_the_matrices_that_are_made_twice(monkeypatch):
    train = random_training_set(3)
    matrices = kernel_matrices(train)
    held = matrices.terms.nbytes + matrices.distances.nbytes
    assert kernel_bytes(train) == held == 4 * 22 * 30 * (len(matrices.terms) + len(matrices.distances))
    assert len(matrices.distances) == 1
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: 2 * held)
    np.testing.assert_array_equal(kernel_matrices(train).terms, matrices.terms)
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: 2 * held - 1)
    with pytest.raises(CatalogTooLargeError, match="The kernels of 30 items"):
        kernel_matrices(train)


@pytest.mark.parametrize(
    ("n_users", "coupled", "spectra", "factors"),
    [(50_000, True, 2382.828, 504.628), (50_000, False, 817.220, 298.189), (3000, False, 84.099, 28.455)],
)
def test_seconds_of_three_fits_of_marec_on_each_of_nine_matrices(n_users, coupled, spectra, factors):
    found = marec_seconds(n_users, 14_000, FITS, coupled=coupled)
    assert found == (pytest.approx(spectra, abs=1e-3), pytest.approx(factors, abs=1e-3))


@pytest.mark.parametrize("lambda_0", [0.0, 0.01, 0.9, 3.0])
def test_a_solver_of_marec_is_chosen_by_the_seconds_of_coupled_items_wherever_they_are(lambda_0):
    outlook = StudyOutlook(
        50_000, 14_000, 10**12, trials=9, splits=3, distinct={"lambda_1": 3}, options=FitConfig(device="cpu")
    )
    config = MARecConfig(lambda_0=lambda_0, beta=0.001, delta=1.0)
    taken, _ = MARec._exact_solver(config, outlook)
    spectra, factors = marec_seconds(50_000, 14_000, FitsOfAMatrix.of(outlook, "lambda_1"), coupled=lambda_0 > 0)
    assert taken.seconds == {"exact": spectra, "cholesky": factors}[taken.solver] == min(spectra, factors)


def test_seconds_of_ease_and_of_the_learned_kernel():
    assert ease_seconds(14_000, FITS) == (pytest.approx(3657.478, abs=1e-3), pytest.approx(1237.270, abs=1e-3))
    assert _exact_seconds(40_000) == pytest.approx(377.173, abs=1e-3)
