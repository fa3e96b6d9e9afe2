"""MARec once more: slow, dense, float64, equation by equation (Monteil et al., RecSys 2024, Eq. 3-9).

It shares no code with the library, and holds every matrix that the library avoids.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import scipy.optimize

PARAMETERS = ("lambda_1", "lambda_0", "alpha", "beta", "delta", "w0", "order", "learner")
"""What the equations depend on; the library's other parameters say how it computes them."""


@dataclass
class Vectors:
    """An attribute with a vector an item, dense ``[I, d]``."""

    values: np.ndarray


@dataclass
class Numbers:
    """An attribute with a number an item ``[I]``, NaN where it is unknown."""

    values: np.ndarray
    span: float


def smoothed_cosine(vectors, delta):
    """Eq. 3-4: ``z_iᵀz_j / (‖z_i‖‖z_j‖ + δ)``."""
    n_items = len(vectors)
    similarity = np.zeros((n_items, n_items))
    for i, j in itertools.product(range(n_items), repeat=2):
        norms = np.sqrt(sum(vectors[i] ** 2)) * np.sqrt(sum(vectors[j] ** 2))
        similarity[i, j] = sum(vectors[i] * vectors[j]) / (norms + delta)
    return similarity


def number_similarity(values, span):
    """``1 − |Δ| / range``; nothing is similar to an unknown number."""
    n_items = len(values)
    similarity = np.zeros((n_items, n_items))
    for i, j in itertools.product(range(n_items), repeat=2):
        if not np.isnan(values[i] - values[j]):
            similarity[i, j] = max(0.0, 1 - abs(values[i] - values[j]) / span)
    return similarity


def similarity_terms(attributes, delta, order):
    """Return ``G^(t)`` by name: the attributes, then the elementwise products of two of them."""
    terms = {}
    for name, attribute in attributes.items():
        if isinstance(attribute, Vectors):
            terms[name] = smoothed_cosine(attribute.values, delta[name] if isinstance(delta, dict) else delta)
        else:
            terms[name] = number_similarity(attribute.values, attribute.span)
    if order == 2:
        for k, m in itertools.combinations(list(attributes), 2):
            terms[f"{k} × {m}"] = terms[k] * terms[m]
    return terms


def without_diagonal(matrix):
    return matrix - np.diag(np.diag(matrix))


def cells(clicks, terms):
    """Return the regressors ``vec(X G^(t))`` as columns, and the target ``vec(X)``, over users × warm items."""
    warm = np.flatnonzero(clicks.sum(axis=0))
    columns = [
        (clicks[:, warm] @ without_diagonal(similarity[np.ix_(warm, warm)])).ravel() for similarity in terms.values()
    ]
    return np.column_stack(columns), clicks[:, warm].ravel()


def regression(clicks, terms, w0, *, nonnegative=False):
    """Weighted least squares over all cells; weight 1 for a click and `w0` for none; the intercept is dropped."""
    regressors, target = cells(clicks, terms)
    root = np.sqrt(np.where(target > 0, 1.0, w0))
    design = np.column_stack([np.ones(len(target)), regressors]) * root[:, None]
    if nonnegative:
        lower = np.r_[-np.inf, np.zeros(regressors.shape[1])]
        return scipy.optimize.lsq_linear(design, root * target, (lower, np.inf), method="bvls", tol=1e-14).x[1:]
    return np.linalg.lstsq(design, root * target, rcond=None)[0][1:]


def correlations(clicks, terms, grid):
    """Return, for each row of weights, the correlation of mixture and co-click cosine over pairs of warm items."""
    warm = np.flatnonzero(clicks.sum(axis=0))
    distinct = ~np.eye(len(warm), dtype=bool)
    clicked = clicks[:, warm]
    together = clicked.T @ clicked
    target = (together / np.sqrt(np.outer(np.diag(together), np.diag(together))))[distinct]
    vectors = np.stack([similarity[np.ix_(warm, warm)][distinct] for similarity in terms.values()])
    mixtures = grid @ vectors
    centred, target = mixtures - mixtures.mean(axis=1, keepdims=True), target - target.mean()
    norms = np.sqrt((centred**2).sum(axis=1) * (target**2).sum())
    return np.where(norms > 1e-9, (centred @ target) / np.where(norms > 1e-9, norms, 1), -np.inf)


def correlation_search(clicks, terms, values=(0, 0.25, 0.5, 0.75, 1)):
    """Try every combination of the grid; of proportional mixtures, which correlate alike, take the largest."""
    grid = np.array(list(itertools.product(values, repeat=len(terms))), float)
    found = correlations(clicks, terms, grid)
    best = grid[found >= found.max() - 1e-9]
    return best[np.argmax(best.sum(axis=1))]


def gram_of_attributes(attributes):
    """``F Fᵀ`` between items: vectors side by side, numbers centred and in units of their range, 0 if unknown."""
    columns = []
    for attribute in attributes.values():
        if isinstance(attribute, Vectors):
            columns.append(attribute.values)
        else:
            centred = (attribute.values - np.nanmean(attribute.values)) / attribute.span
            columns.append(np.nan_to_num(centred)[:, None])
    stacked = np.column_stack(columns)
    return stacked @ stacked.T


def alignment_strength(clicks, beta):
    """``d_j = (β/p) max(p − r_j, 0)``, with p the 10th percentile of the clicks r of all items, at least 1."""
    counts = clicks.sum(axis=0)
    p = max(np.percentile(counts, 10), 1)
    return beta / p * np.maximum(p - counts, 0)


def closed_form(clicks, mixture, attribute_gram, *, alpha, beta, lambda_0, lambda_1):
    """Eq. 6 and 9 over all items."""
    aligned = alpha * clicks @ mixture @ np.diag(alignment_strength(clicks, beta))  # f^A
    gram = clicks.T @ clicks + lambda_0 * attribute_gram + clicks.T @ aligned
    P = np.linalg.inv(gram + lambda_1 * np.eye(len(gram)))
    smooth = P @ gram
    return smooth - P @ np.diag(np.diag(smooth) / np.diag(P))


def ease(clicks, lambda_1):
    """Steck, *Embarrassingly Shallow Autoencoders*, WWW 2019: ``−P_ij / P_jj`` off the diagonal."""
    P = np.linalg.inv(clicks.T @ clicks + lambda_1 * np.eye(clicks.shape[1]))
    return without_diagonal(-P / np.diag(P)[None, :])


@dataclass
class Solution:
    terms: dict
    weights: np.ndarray
    mixture: np.ndarray
    theta: np.ndarray


def marec(clicks, attributes, *, lambda_1, lambda_0, alpha, beta, delta, w0, order, learner="regression"):
    """Fit on dense clicks ``[U, I]`` and return the item weights Θ ``[I, I]``."""
    terms = similarity_terms(attributes, delta, order)
    if learner == "correlation":
        weights = correlation_search(clicks, terms)
    else:
        weights = regression(clicks, terms, w0, nonnegative=learner == "nonnegative")
    mixture = sum(weight * similarity for weight, similarity in zip(weights, terms.values(), strict=True))
    theta = closed_form(
        clicks,
        mixture,
        gram_of_attributes(attributes),
        alpha=alpha,
        beta=beta,
        lambda_0=lambda_0,
        lambda_1=lambda_1,
    )
    return Solution(terms, weights, mixture, theta)
