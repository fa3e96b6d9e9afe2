"""Which exact solver a study takes, and that it is told."""

from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.models.forms import StudyOutlook
from coldray.models.linalg.solver_costs import FitsOfAMatrix, ease_seconds, marec_seconds
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.model import MARec

SPLITS = 3


def outlook(trials, memory=2**50, n_users=50_000, n_items=14_000, **distinct):
    return StudyOutlook(n_users, n_items, memory, trials, SPLITS, {"delta": 1, **distinct})


def settled(seen, **parameters):
    config, (form,) = MARec.settle(MARecConfig(**parameters), seen)
    assert config.solver == form.value
    return form


def test_few_trials_take_a_factor_each_and_many_share_eigendecompositions():
    few = settled(outlook(8, lambda_1=8, lambda_0=3), lambda_0=10.0)
    assert few.value == "cholesky"
    assert few.told == (
        "solver=cholesky (exact): MARec on 14,000 items needs 6.6 of 1,048,576.0 GiB of memory; the quicker of two "
        "exact solvers, about 505 s of one CPU."
    )
    assert few.told_in_full == f"{few.told} {few.reckoning}"
    assert "Up to 3 fits with 3 different lambda_1 on each of 9 matrices: a Cholesky factor for each" in few.reckoning
    many = settled(outlook(500, lambda_1=500))
    assert many.value == "exact"
    assert "500 fits with 500 different lambda_1 on each of 3 matrices: eigendecompositions" in many.reckoning


def test_trials_that_differ_in_alpha_and_beta_alone_are_one_fit():
    assert settled(outlook(500, alpha=20, beta=500, lambda_1=2)).value == "cholesky"
    fits = FitsOfAMatrix.of(outlook(500, alpha=20, beta=500, lambda_1=2), "lambda_1")
    assert fits == FitsOfAMatrix(matrices=SPLITS, fits=2, ridges=2)


def test_a_study_in_which_the_quicker_solver_does_not_fit_takes_the_other():
    many = outlook(500, lambda_1=500)
    need = {name: MARec(MARecConfig(solver=name)).memory_bytes(50_000, 14_000) for name in ("exact", "cholesky")}
    assert need["cholesky"] < need["exact"]
    assert settled(outlook(500, memory=need["exact"], lambda_1=500)).value == "exact"
    assert settled(outlook(500, memory=need["exact"] - 1, lambda_1=500)).value == "cholesky"
    assert settled(outlook(500, memory=need["cholesky"] - 1, lambda_1=500)).value == "blocks"
    assert settled(many, solver="users").reason == "The configuration names it."


@settings(max_examples=60, deadline=None)
@given(
    n_users=st.integers(1, 10**6),
    n_items=st.integers(2, 10**5),
    fits=st.integers(1, 2000),
    coupled=st.booleans(),
)
def test_more_fits_never_speak_for_factors(n_users, n_items, fits, coupled):
    """One fit is cheapest by a factor; the more fits share a matrix, the less it pays against the spectrum."""

    def ratio(count, seconds):
        spectral, factors = seconds(FitsOfAMatrix(1, count, count))
        return spectral / factors

    for seconds in (
        lambda one: marec_seconds(n_users, n_items, one, coupled=coupled),
        lambda one: ease_seconds(n_items, one),
    ):
        assert ratio(1, seconds) > 1
        assert ratio(fits + 1, seconds) <= ratio(fits, seconds)


def test_few_users_leave_a_small_matrix_to_be_factorised():
    assert settled(outlook(500, n_users=2_000, lambda_1=500)).value == "cholesky"


def test_ease_takes_shared_spectra_for_many_ridges():
    spectral, factors = ease_seconds(2_000, FitsOfAMatrix(1, 20, 20))
    assert spectral < factors
    spectral, factors = ease_seconds(2_000, FitsOfAMatrix(1, 10, 10))
    assert spectral > factors
