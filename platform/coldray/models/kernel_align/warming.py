"""From attributes to clicks: what an item's own clicks add to what its attributes say.

Attributes give the column of weights of item j on the others a mean m_j (:mod:`~coldray.models.kernel_align.weights`;
of an item with clicks, given all other items). Its n_j known clicks x_j have the ridge estimate ``ŵ_j = P X_wᵀ x_j``
with ``P = (X_wᵀX_w + λI)⁻¹``. Of an item that will have p_j clicks in all, a share ``e = n_j / p_j`` is known, so that
``ŵ_j / e`` estimates its column, with the covariance ``σ_j² P / e``, where σ_j² grows like p_j, as of any count. What
the attributes say is off by a share of the column's own size: ``w_j ~ N(m_j, p_j/κ · σ_j² P)``, in the same metric (the
g-prior of Zellner 1986, *On assessing prior distributions and Bayesian regression analysis with g-prior distributions*;
an isotropic one forgets m_j in the very directions in which it is sure). The posterior mean is::

    κ / (n_j + κ) · m_j + p_j / (n_j + κ) · ŵ_j

so that κ clicks say as much as the attributes. The factor of ŵ_j is left out, for p_j is not known of a new item, and
ridge has shrunk ŵ_j already. On validation items of ``ml1m-hetrec``, lists of warm items lose 2 % with it, and those of
new ones up to 5 %. What is used is therefore ``κ/(n_j + κ) m_j + ŵ_j``: m_j at n = 0, and with n the weight of the
attributes goes to 0. What remains is ridge regression, of warm items with the constraint ``w_jj = 0`` that of EASE
(Steck 2019, Eq. 8): ``E_ij = S_ij / (1 − S_jj)`` off the diagonal, from the columns of ``S = P X_wᵀX_w``.

Conditional means come in units of clicks damped by ``D = diag((n_i + 5)^−α)``; what clicks say is brought into the same
ones by the geometric mean of D. Scores of new items are left as they are, so that with no click they are those of the
attributes, times ``exp(γ_c Δ_j)`` with what those who clicked tell of the popularity
(:mod:`~coldray.models.kernel_align.clickers`); those of warm items are divided by `new_weight`. For a warm item's score
estimates a click that was found in training, most of which are behind it, while all clicks of a new one are to come.

Notation used for shapes: U users, W warm items, I all items, n items, k new items with clicks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items, TrainingSet
from coldray.models.kernel_align.clickers import ClickerPopularity
from coldray.models.kernel_align.columns import LatestColumns
from coldray.models.kernel_align.smoothing import UserSmoother
from coldray.models.kernel_align.weights import ExactWeights, LatestScores

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Balance:
    """How clicks and attributes, new items and warm ones are weighed against each other."""

    prior_clicks: float
    """κ, in clicks."""
    unit: float
    """Geometric mean of D."""
    new_weight: float
    """What scores of warm items are divided by."""
    clickers: float
    """γ_c."""


@dataclass(frozen=True, eq=False)
class _NewItem:
    """What clicks say of an item that had none in the fit."""

    clicks: float
    """n_j."""
    column: Matrix
    """``P X_wᵀ x_j`` ``[W]``."""
    rise: float
    """Δ_j."""


@dataclass(frozen=True, eq=False)
class Warming:
    """What clicks add to the weights of a fitted model, and what is known of new items."""

    balance: Balance
    smoothed: LatestScores
    """Smooths by λ alone: of unit columns, S."""
    popularity: ClickerPopularity
    clicks: Matrix
    """Clicks of each item in the fit, float32 ``[I]``."""
    new_items: Mapping[int, _NewItem]
    """What is known of items without a click in the fit, of those that have some now."""
    latest: LatestColumns = field(default_factory=LatestColumns)
    """Shared by all that know more clicks on the same items."""

    @classmethod
    def of(cls, train: TrainingSet, balance: Balance, smoothed: LatestScores, popularity: ClickerPopularity) -> Self:
        """Begin with the clicks of the fit; nothing is known of new items."""
        return cls(balance, smoothed, popularity, train.clicks.astype(np.float32), {})

    def appended(self, count: int) -> Warming:
        """Return the same for a catalogue with so many items more, which have no click."""
        clicks = np.append(self.clicks, np.zeros(count, np.float32))
        return replace(self, clicks=clicks, smoothed=self.smoothed.appended(), latest=LatestColumns())

    def knowing(self, items: Items, interactions: sp.csr_array, weights: ExactWeights) -> Warming:
        """Return what is known with the clicks on some items that had none in the fit; of others nothing changes.

        Parameters
        ----------
        items
            Ascending ``[k]``.
        interactions
            Of all who clicked one of them: what they clicked in the fit, and these items ``[b, I]``.
        """
        counts = np.bincount(interactions.indices, minlength=weights.n_items)[items]
        known = dict(self.new_items)
        for item in items[counts == 0].tolist():
            known.pop(item, None)
        items, counts = items[counts > 0], counts[counts > 0]
        on_warm = sp.csr_array(interactions[:, weights.warm_items], dtype=np.float32)
        on_new = sp.csr_array(interactions[:, items], dtype=np.float32)
        on_new.data = np.ones_like(on_new.data)  # a user is one, however often they click
        common = np.asarray(sp.csr_array(on_warm.T) @ on_new.toarray(), np.float32)
        smoother = self.smoothed.smoother
        columns = (common - smoother.weights(common)) / np.float32(smoother.shift)  # S M = M − λ P M
        rises = self.popularity.rise(on_warm, on_new, weights, weights.places(items) - len(weights.warm_items))
        of_items = zip(counts.tolist(), np.ascontiguousarray(columns.T), rises.tolist(), strict=True)
        known |= {item: _NewItem(*said) for item, said in zip(items.tolist(), of_items, strict=True)}
        return replace(self, new_items=known)

    def shares(self, items: Items, weights: ExactWeights) -> Matrix:
        """Return the factors that the attributes' columns of some items have ``[n]``."""
        kappa, clicks = self.balance.prior_clicks, self.clicks[items]
        for place, new in self._known(items):
            clicks[place] = new.clicks
        return np.asarray(kappa / (clicks + kappa) * self._scales(items, weights), np.float32)

    def columns(self, items: Items, weights: ExactWeights) -> Matrix:
        """Return what clicks add to the columns of some items ``[W, n]``."""
        places = weights.places(items)
        warm = np.flatnonzero(places < len(weights.warm_items))

        def units(asked: Items) -> Matrix:
            columns = np.zeros((len(weights.warm_items), len(asked)), np.float32)
            columns[weights.places(asked), np.arange(len(asked))] = 1
            return columns

        columns = np.zeros((len(weights.warm_items), len(items)), np.float32)
        if len(warm):
            columns[:, warm] = self.smoothed.columns(items[warm], units)
            diagonal = columns[places[warm], warm]
            columns[:, warm] /= 1 - diagonal
            columns[places[warm], warm] = 0
        for place, new in self._known(items):
            columns[:, place] = new.column
        return columns * np.float32(self.balance.unit) * self._scales(items, weights)

    def _known(self, items: Items) -> list[tuple[int, _NewItem]]:
        """Return which of some items are new ones with clicks, by their places, and what is known of them."""
        if not self.new_items:
            return []
        found = ((place, self.new_items.get(item)) for place, item in enumerate(items.tolist()))
        return [(place, new) for place, new in found if new is not None]

    def _scales(self, items: Items, weights: ExactWeights) -> Matrix:
        scales = np.ones(len(items), np.float32)
        scales[weights.places(items) < len(weights.warm_items)] = 1 / self.balance.new_weight
        for place, new in self._known(items):
            scales[place] = np.exp(np.float32(self.balance.clickers * new.rise))
        return scales

    def scorer(self, weights: ExactWeights, items: Items, factors: Matrix | None) -> Scorer:
        """Return the function ``X → X_w B`` on some columns, those of the attributes times `factors` ``[n]``.

        The columns are kept. With more clicks on the same items, those of the clicked ones alone are made.
        """
        factors = np.ones(len(items), np.float32) if factors is None else factors

        def made(asked: Items, own: Matrix, *, by_attributes: bool = False) -> Matrix:
            knowing = replace(self, new_items={}) if by_attributes else self
            shares = knowing.shares(asked, weights) * own
            return np.asarray(weights.columns(asked) * shares + knowing.columns(asked, weights), np.float32)

        columns = self.latest.of(items, factors, self.new_items, made)

        def scores(histories: sp.csr_array) -> Matrix:
            return columns.products(sp.csr_array(histories[:, weights.warm_items]))

        return scores

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that :meth:`from_state` needs."""
        balance, items = self.balance, sorted(self.new_items)
        new, clicks = [self.new_items[item] for item in items], self.clicks.copy()
        clicks[items] = [one.clicks for one in new]
        columns = [one.column for one in new]
        return {
            "warming.balance": np.array([balance.prior_clicks, balance.unit, balance.new_weight, balance.clickers]),
            "warming.clicks": clicks,
            "warming.new_items": np.array(items, np.int64),
            "warming.new_columns": np.reshape(columns, (len(new), len(self.smoothed.smoother.damping))).T,
            "warming.rises": np.array([one.rise for one in new], np.float32),
            **{f"warming.smoother.{name}": value for name, value in self.smoothed.smoother.state().items()},
            **{f"warming.popularity.{name}": value for name, value in self.popularity.state().items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild what was known."""

        def part(prefix: str) -> dict[str, npt.NDArray[Any]]:
            return {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}

        own = part("warming.")
        items, clicks = own["new_items"], own["clicks"].copy()
        of_items = zip(
            clicks[items].tolist(), np.ascontiguousarray(own["new_columns"].T), own["rises"].tolist(), strict=True
        )
        known = {item: _NewItem(*said) for item, said in zip(items.tolist(), of_items, strict=True)}
        clicks[items] = 0
        return cls(
            Balance(*own["balance"].tolist()),
            LatestScores(UserSmoother.from_state(part("warming.smoother."))),
            ClickerPopularity.from_state(part("warming.popularity.")),
            clicks,
            known,
        )
