"""Learning the weights μ of the similarity mixture (MARec Eq. 5).

The weighted least squares over all user × warm-item cells has one regressor ``vec(X G^(t))`` a term. It needs only
sums of products of these regressors, the *moments*, and they are computed without ever holding a regressor:

- over all cells, ``Σ (XG^s)∘(XG^t) = tr(G^sᵀ C G^t)`` with ``C = XᵀX``. With a Cholesky factor ``C = RᵀR`` this is the
  inner product of ``R G^s`` and ``R G^t``, and the triangle halves the work;
- over the clicks alone, ``(XG^t)_ui`` is a sum of rows of ``G^t`` over what user u clicked, an embedding bag.

Where clicks are few, the regressors themselves are cheaper: sums of rows of ``G^t`` over each user's clicks, a block of
columns at a time (:mod:`~coldray.models.marec.sampled_moments`, with every item drawn).

One pass serves every w₀, every learner, and the first order as the leading block of the second.

Notation used for shapes: U users, W warm items, K attributes, T terms, b columns in a block.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.optimize
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from coldray.core.device import DeviceName, cpu_count, load_torch_aside, resolve_device
from coldray.core.errors import SingularMatrixError
from coldray.core.memory import require_memory
from coldray.core.one_thread import one_thread
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.marec.similarity import Delta, Order, Similarities, term_names, term_pairs

if TYPE_CHECKING:
    import torch

Learner: TypeAlias = Literal["regression", "nonnegative", "correlation"]
Weights: TypeAlias = npt.NDArray[np.float64]

_TRIANGLE_STEPS = 8
"""Row blocks the triangular factor is cut into: 8 of them leave 9/16 of the full product's work."""
_USERS_PER_BLOCK = 256
"""Users whose dense regressors a GPU holds at once."""
_BLOCK_FLOATS = 2**22
"""float32 values of the terms held at once by a thread (16 MiB)."""
_KEPT_BYTES = 2**26
"""A factor of the clicks is kept with its training set up to this size, as several δ are asked for."""
_FACTORS: WeakKeyDictionary[TrainingSet, tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]] = WeakKeyDictionary()
_CONDITION_LIMIT = 2e-7
"""Smallest eigenvalue of the scaled normal equations, relative to the largest, that counts as regular.

Attributes equal but for float32 rounding give up to 5e-8; 45 similarities of real films give 5e-6."""
_DENSE_GAIN = 125
"""Steps of the dense products in the time of one of the sums over clicks, measured by one thread: 19 s for 1.0e12 steps
of the former and 4.8 s for 4.1e9 of the latter (14,000 generated items, 164,000 clicks, three terms), less what both do
beside."""
_GRID = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Values a weight may take in the correlation learner."""
_CORRELATION_TIE = 1e-9
"""Correlations that differ by less than this share are equal."""
_FULL_GRID_LIMIT = 5**8
"""Largest grid that is searched point by point; beyond it, one weight after the other until nothing improves."""


@dataclass(frozen=True, eq=False)
class RegressionMoments:
    """Sums over cells of the regressors ``f^t = (XG^t)_ui`` and of their products, float64."""

    products: npt.NDArray[np.float64]
    """``Σ_all f fᵀ`` ``[T, T]``."""
    sums: npt.NDArray[np.float64]
    """``Σ_all f`` ``[T]``."""
    click_products: npt.NDArray[np.float64]
    """``Σ_clicks f fᵀ`` ``[T, T]``."""
    click_sums: npt.NDArray[np.float64]
    """``Σ_clicks f`` ``[T]``."""
    n_cells: int
    n_clicks: int
    terms: tuple[str, ...]

    def leading(self, count: int) -> RegressionMoments:
        """Return the moments of the first `count` terms."""
        return RegressionMoments(
            self.products[:count, :count],
            self.sums[:count],
            self.click_products[:count, :count],
            self.click_sums[:count],
            self.n_cells,
            self.n_clicks,
            self.terms[:count],
        )


def regression_moments(
    train: TrainingSet, *, delta: Delta, order: Order, device: DeviceName = "auto"
) -> RegressionMoments:
    """Return the moments over the warm items of `train`, with zeroed diagonals of ``G``.

    Raises
    ------
    CatalogTooLargeError
        If the co-click matrix and its factor do not fit in memory.
    """
    load_torch_aside()  # it is needed when the clicks are factorised
    warm = train.warm_items
    where = resolve_device(device)
    clicks = sp.csr_array(train.interactions[:, warm])
    features = train.features.take(warm)
    terms = term_names(features, order)
    size, count = len(warm), len(terms)
    if where == "cpu":
        _require_moments_memory(size, count)
        if _DENSE_GAIN * clicks.nnz < size * min(clicks.shape):
            sums = _moments_of_few_clicks(clicks, features, delta, order)
        else:
            sums = _moments_cpu(clicks, features, delta, order, *_click_factor(train, clicks))
    else:
        import torch

        need = 4 * size * (size * len(features.features) + 3 * _USERS_PER_BLOCK * count)
        require_memory(
            need,
            purpose=f"Learning the weights of {count} similarities between {size:,} warm items on {where}",
            way_out="Use device='cpu', order=1, or fewer items through the filters.",
            available=torch.cuda.mem_get_info(where)[0],
        )
        sums = _moments_torch(clicks, features, delta, order, torch.device(where))
    return RegressionMoments(*sums, n_cells=clicks.shape[0] * size, n_clicks=int(clicks.nnz), terms=terms)


def moments_bytes(n_items: int, n_terms: int) -> int:
    """Return what the moments of that many items take on the CPU."""
    return 20 * n_items**2 + 8 * cpu_count() * max(_BLOCK_FLOATS, 8 * n_terms * n_items)


def _require_moments_memory(n_items: int, n_terms: int) -> None:
    """Raise `CatalogTooLargeError` if the moments of that many items do not fit in memory."""
    require_memory(
        moments_bytes(n_items, n_terms),
        need_of_items=lambda count: moments_bytes(count, n_terms),
        n_items=n_items,
        purpose=f"Learning the weights of {n_terms} similarities between {n_items:,} warm items",
        way_out="Use order=1, or fewer items through the filters.",
    )


def _click_factor(train: TrainingSet, clicks: sp.csr_array) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """Return the factor of ``C``, and its pivots: those of before where the training set was asked for another δ."""
    found = _FACTORS.get(train)
    if found is None:
        found = _pivoted_cholesky((clicks.T @ clicks).toarray().astype(np.float64))
        if found[0].nbytes <= _KEPT_BYTES:
            _FACTORS[train] = found
    return found


def _moments_cpu(
    clicks: sp.csr_array,
    features: Any,
    delta: Delta,
    order: Order,
    factor: npt.NDArray[np.float32],
    pivots: npt.NDArray[np.intp],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    size = clicks.shape[1]
    # Everything is renumbered by the pivots, so that the factor is a triangle.
    rows = sp.csr_array(clicks[:, pivots])
    rows.sort_indices()
    pass_ = _ColumnPass(rows, Similarities(features.take(pivots), features.take(pivots), delta), order, factor)
    width = max(8, min(256, _BLOCK_FLOATS // max(pass_.count * size, 1)))
    starts = range(0, size, width)
    with threadpool_limits(1), ThreadPoolExecutor(cpu_count()) as threads:
        parts = list(threads.map(lambda start: pass_(start, min(start + width, size)), starts))
    products, sums, click_products, click_sums = (sum(part[i] for part in parts) for i in range(4))
    return products, sums, click_products, click_sums


def _moments_of_few_clicks(
    clicks: sp.csr_array, features: FeatureSet, delta: Delta, order: Order
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    from coldray.models.marec.sampled_moments import BLOCK_FLOATS as FLOATS  # it imports this module
    from coldray.models.marec.sampled_moments import MomentTerms

    threads = cpu_count()

    def part(items: npt.NDArray[np.intp]) -> list[npt.NDArray[np.float64]]:
        terms = MomentTerms(features, items, delta, order, block_floats=FLOATS // threads)
        sums = [np.zeros(shape) for shape in terms.shapes]
        with one_thread():
            terms.add(clicks, sums)
        return sums

    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(part, np.array_split(np.arange(clicks.shape[1]), threads)))
    products, sums, click_products, click_sums = (sum(part[i] for part in parts) for i in range(4))
    return products, sums, click_products, click_sums  # type: ignore[return-value]


class _ColumnPass:
    """The moments that a block of item columns contributes."""

    def __init__(
        self, rows: sp.csr_array, similarities: Similarities, order: Order, factor: npt.NDArray[np.float32]
    ) -> None:
        self.rows, self.columns = rows, sp.csc_array(rows)
        self.similarities = similarities
        self.pairs = term_pairs(len(similarities), order)
        self.count = len(self.pairs)
        self.factor = np.ascontiguousarray(factor.T)  # [W, rank], lower trapezoid
        self.item_clicks = np.diff(self.columns.indptr).astype(np.float32)
        edges = np.linspace(0, factor.shape[0], _TRIANGLE_STEPS + 1).astype(int)
        self.steps = [(a, b) for a, b in itertools.pairwise(edges) if b > a]

    def __call__(self, start: int, stop: int) -> tuple[Any, Any, Any, Any]:
        import torch

        torch.set_num_threads(1)  # this thread's own setting: the blocks are what runs in parallel
        terms = self._terms(start, stop)  # [T, b, W]; G is symmetric, so rows are columns
        click_products, click_sums = self._over_clicks(terms, start)
        flat = terms.reshape(-1, terms.shape[2])
        sums = (flat @ self.item_clicks).reshape(self.count, -1).sum(axis=1, dtype=np.float64)
        products = np.zeros((self.count, self.count))
        for a, b in self.steps:
            projected = (flat[:, a:] @ self.factor[a:, a:b]).reshape(self.count, -1)
            products += projected @ projected.T
        return products, sums, click_products, click_sums

    def _terms(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        first = self.similarities.block(start, stop)
        first[:, np.arange(stop - start), np.arange(start, stop)] = 0.0
        terms = np.empty((self.count, *first.shape[1:]), np.float32)
        terms[: len(first)] = first
        for t in range(len(first), self.count):
            k, m = self.pairs[t]
            np.multiply(first[k], first[m], out=terms[t])
        return terms

    def _over_clicks(self, terms: npt.NDArray[np.float32], start: int) -> tuple[Any, Any]:
        import torch

        products, sums = np.zeros((self.count, self.count)), np.zeros(self.count)
        for j in range(terms.shape[1]):
            users = self.columns.indices[self.columns.indptr[start + j] : self.columns.indptr[start + j + 1]]
            bags = self.rows[users]
            values = torch.nn.functional.embedding_bag(
                torch.from_numpy(bags.indices),
                torch.from_numpy(np.ascontiguousarray(terms[:, j].T)),
                torch.from_numpy(bags.indptr[:-1]),
                mode="sum",
            ).numpy()  # [clicks of the item, T]
            products += values.T @ values
            sums += values.sum(axis=0, dtype=np.float64)
        return products, sums


def _pivoted_cholesky(gram: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """Return ``R [rank, W]`` float32 and the pivots, with ``C[pivots][:, pivots] = RᵀR``, for any rank."""
    factor, pivots, rank, _ = scipy.linalg.lapack.dpstrf(gram, overwrite_a=True)
    return np.triu(factor[:rank]).astype(np.float32), pivots - 1


def _moments_torch(
    clicks: sp.csr_array,
    features: Any,
    delta: Delta,
    order: Order,
    device: torch.device,
    users_per_block: int = _USERS_PER_BLOCK,
) -> tuple[Any, Any, Any, Any]:
    """Compute the same moments from dense regressors of one block of users after the other, for a GPU."""
    import torch

    similarities = Similarities(features, features, delta)
    first = torch.from_numpy(similarities.block(0, clicks.shape[1])).to(device)
    first.diagonal(dim1=1, dim2=2).zero_()
    pairs = term_pairs(len(similarities), order)
    count = len(pairs)
    products, click_products = (torch.zeros(count, count, dtype=torch.float64, device=device) for _ in range(2))
    sums, click_sums = (torch.zeros(count, dtype=torch.float64, device=device) for _ in range(2))
    for start in range(0, clicks.shape[0], users_per_block):
        block = torch.from_numpy(clicks[start : start + users_per_block].toarray()).to(device)
        regressors = torch.stack(
            [block @ (first[t[0]] if len(t) == 1 else first[t[0]] * first[t[1]]) for t in pairs]
        )  # [T, b, W]
        flat, clicked = regressors.flatten(1), regressors[:, block > 0]
        products += (flat @ flat.T).double()
        click_products += (clicked @ clicked.T).double()
        sums += flat.sum(dim=1, dtype=torch.float64)
        click_sums += clicked.sum(dim=1, dtype=torch.float64)
    return tuple(part.cpu().numpy() for part in (products, sums, click_products, click_sums))  # type: ignore[return-value]


def learn_weights(moments: RegressionMoments, *, w0: float, nonnegative: bool) -> Weights:
    """Solve the weighted least squares for μ; the intercept is fitted and dropped.

    Parameters
    ----------
    w0
        Weight of a cell without a click; a click weighs 1.
    nonnegative
        Constrain ``μ ≥ 0``.

    Raises
    ------
    SingularMatrixError
        If all similarities are zero, or two carry the same information and nothing says which weight is which.
    """
    weighted = w0 * (moments.products - moments.click_products) + moments.click_products
    sums = w0 * (moments.sums - moments.click_sums) + moments.click_sums
    total = w0 * (moments.n_cells - moments.n_clicks) + moments.n_clicks
    covariance = weighted - np.multiply.outer(sums, sums) / total
    target = moments.click_sums - sums * moments.n_clicks / total
    scale = np.sqrt(np.maximum(np.diag(covariance), 0))
    used = scale > 0  # a similarity that is zero everywhere keeps the weight 0
    scaled = covariance[np.ix_(used, used)] / np.multiply.outer(scale[used], scale[used])
    values, vectors = np.linalg.eigh(scaled)
    if not used.any():
        raise SingularMatrixError(_collinear(moments.terms, used, vectors))
    weights = np.zeros(len(scale))
    if not nonnegative:
        if values[0] < _CONDITION_LIMIT * values[-1]:
            raise SingularMatrixError(_collinear(moments.terms, used, vectors))
        weights[used] = vectors @ ((vectors.T @ (target[used] / scale[used])) / values) / scale[used]
        return weights
    root = np.sqrt(np.maximum(values, 0))
    keep = root > np.sqrt(_CONDITION_LIMIT * values[-1])
    design = root[keep, None] * vectors[:, keep].T
    response = (vectors[:, keep].T @ (target[used] / scale[used])) / root[keep]
    weights[used] = scipy.optimize.nnls(design, response)[0] / scale[used]
    return weights


def _collinear(terms: tuple[str, ...], used: npt.NDArray[np.bool_], vectors: npt.NDArray[np.float64]) -> str:
    if not used.any():
        return "All similarities are zero: no two warm items share an attribute. Use other attributes."
    names = [name for name, kept in zip(terms, used, strict=True) if kept]
    share = np.abs(vectors[:, 0])
    strongest = [repr(names[t]) for t in np.argsort(-share, kind="stable")[:3] if share[t] > 0.1 * share.max()]
    return (
        f"The regression for the similarity weights is singular: {', '.join(strongest)} carry the same information. "
        "Drop one of the attributes, use order=1, or learner='nonnegative'."
    )


@dataclass(frozen=True, eq=False)
class _CoclickMoments:
    """What the correlation between a mixture and the co-clicks needs, over ordered pairs of distinct warm items."""

    covariance: npt.NDArray[np.float64]
    """Between the terms ``[T, T]``."""
    with_coclicks: npt.NDArray[np.float64]
    """Between each term and the cosine of co-clicks ``[T]``."""


def coclick_moments(train: TrainingSet, *, delta: Delta, order: Order) -> _CoclickMoments:
    """Return the moments of the similarities against the co-click cosine ``C_ij / √(C_ii C_jj)``.

    Raises
    ------
    CatalogTooLargeError
        If the co-click matrix does not fit in memory.
    """
    warm = train.warm_items
    count = len(term_names(train.features, order))
    require_memory(
        24 * len(warm) ** 2 + 8 * max(_BLOCK_FLOATS, 8 * count * len(warm)),
        purpose=f"Learning the weights of {count} similarities between {len(warm):,} warm items",
        way_out="Use order=1, or fewer items through the filters.",
    )
    clicks = sp.csr_array(train.interactions[:, warm])
    norms = np.sqrt(np.diff(sp.csc_array(clicks).indptr))
    cosine = ((clicks.T @ clicks).toarray() / np.multiply.outer(norms, norms)).astype(np.float32)
    np.fill_diagonal(cosine, 0.0)
    features = train.features.take(warm)
    similarities = Similarities(features, features, delta)
    pairs = term_pairs(len(similarities), order)
    size = len(warm)
    products, sums, cross = np.zeros((count, count)), np.zeros(count), np.zeros(count)
    width = max(8, min(256, _BLOCK_FLOATS // max(count * size, 1)))
    for start in range(0, size, width):
        stop = min(start + width, size)
        first = similarities.block(start, stop)
        first[:, np.arange(stop - start), np.arange(start, stop)] = 0.0
        flat = np.stack([first[t[0]] if len(t) == 1 else first[t[0]] * first[t[1]] for t in pairs]).reshape(count, -1)
        products += flat @ flat.T
        sums += flat.sum(axis=1, dtype=np.float64)
        cross += flat @ cosine[start:stop].ravel()
    cells = max(size * (size - 1), 1)
    means, mean_cosine = sums / cells, float(cosine.sum(dtype=np.float64)) / cells
    return _CoclickMoments(products / cells - np.multiply.outer(means, means), cross / cells - means * mean_cosine)


def correlation_weights(moments: _CoclickMoments) -> Weights:
    """Return the grid weights whose mixture correlates best with the co-clicks.

    Proportional weights correlate alike; of those the largest are returned, since the size of g matters beside αβ.
    Every combination of :data:`_GRID` is tried when there are few enough of them. Otherwise one weight after the
    other takes its best grid value, from the best single similarities as starts, until a round changes nothing.

    Raises
    ------
    SingularMatrixError
        If no similarity varies between the warm items.
    """
    count = len(moments.with_coclicks)
    if np.isneginf(_correlations(moments, np.eye(count))).all():
        raise SingularMatrixError(
            "No similarity varies between the warm items, so none correlates with the co-clicks. Use other attributes."
        )
    if len(_GRID) ** count <= _FULL_GRID_LIMIT:
        grid = np.stack(np.meshgrid(*[_GRID] * count, indexing="ij"), axis=-1).reshape(-1, count)
        found = _correlations(moments, grid)
        best = grid[found >= found.max() - _CORRELATION_TIE * abs(found.max())]
        return np.asarray(best[np.argmax(best.sum(axis=1))])
    starts = np.eye(count)[np.argsort(-_correlations(moments, np.eye(count)), kind="stable")[:5]]
    ends = [_cyclic_search(moments, start) for start in starts]
    return ends[int(np.argmax(_correlations(moments, np.stack(ends))))]


def _cyclic_search(moments: _CoclickMoments, start: Weights) -> Weights:
    weights, best = start.copy(), float(_correlations(moments, start[None])[0])
    improved = True
    while improved:
        improved = False
        for t in range(len(weights)):
            tried = np.repeat(weights[None], len(_GRID), axis=0)
            tried[:, t] = _GRID
            found = _correlations(moments, tried)
            if found.max() > best + 1e-12:
                weights, best, improved = tried[int(np.argmax(found))], float(found.max()), True
    return weights


def _correlations(moments: _CoclickMoments, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the correlation of each row of weights, up to the constant spread of the co-clicks."""
    spread = np.sqrt(np.maximum(np.einsum("gt,ts,gs->g", weights, moments.covariance, weights, optimize=True), 0))
    covariance = weights @ moments.with_coclicks
    return np.where(spread > 1e-12, covariance / np.where(spread > 1e-12, spread, 1.0), -np.inf)
