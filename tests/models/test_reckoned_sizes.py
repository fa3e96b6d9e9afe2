"""What large fits are reckoned to take, in bytes and seconds: forms are chosen by it, and fits are refused by it."""

import pytest

from coldray.core.memory import GIB
from coldray.models.forms import StudyOutlook
from coldray.models.kernel_align.form import _exact_seconds, exact_bytes, inducing_bytes
from coldray.models.kernel_align.model import KernelAlign
from coldray.models.linalg.singular import solver_bytes
from coldray.models.linalg.solver_costs import FitsOfAMatrix, ease_seconds, marec_seconds
from coldray.models.linear.ease import EASE, EASEConfig
from coldray.models.linear.ease_blocks import block_bytes
from coldray.models.marec.cold_elimination import _elimination_bytes
from coldray.models.marec.model import MARec, MARecConfig
from coldray.models.neighbours.content import ContentKNN
from coldray.models.neighbours.item import counting_bytes
from coldray.training.options import FitConfig

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
    assert exact_bytes(5500, 40_000) / 2**30 == pytest.approx(4.5994, abs=1e-4)


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
