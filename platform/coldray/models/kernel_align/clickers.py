"""Who clicked a new item first tells how popular it will be.

People of few clicks click what everybody clicks, people of many also what hardly anybody does. The mean, over those who
clicked an item, of how popular the other things are that each of them clicks therefore says much of an item of which a
handful of clicks are known, whose number says nothing: where every new item is given n, all have n.

With ``y_j = log(clicks_j + 1)`` of a warm item and ``h_u`` the mean of y over what user u clicked, without the item
itself, the mean ``q_j`` of h over the n people who clicked item j is taken for a noisy line in y_j::

    q_j = a + b y_j + e_j,    e_j ~ N(0, s² + t²/n),    y_j ~ N(m_j, v)

where m_j is what the attributes say of y: the conditional mean of the process that the covariance was learned for, of
warm items without themselves, and v the mean square of what that misses. a and b are least squares over the warm items,
t² the variance of h among those who clicked the same item, s² what is left of the errors. Then y_j given q_j is
Gaussian with the mean::

    m_j + v b / (b² v + s² + t²/n) · (q_j − a − b m_j)

(Bishop, *Pattern Recognition and Machine Learning*, 2006, Eq. 2.116). The first clicks are taken for a draw of all that
an item will have: where enthusiasts come first, they make it look less popular than it will be.

Notation used for shapes: U users, W warm items, k new items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.data.dataset import rows_of
from coldray.models.base import TrainingSet
from coldray.models.kernel_align.weights import ExactWeights

Double = npt.NDArray[np.float64]
_LEFT_OUT = 1024
"""Warm items, evenly chosen, on which is measured what the attributes miss of the log clicks."""


@dataclass(frozen=True, eq=False)
class ClickerPopularity:
    """What was learned of the warm items, see the equations above."""

    log_clicks: Double
    """y ``[W]``."""
    line: tuple[float, float]
    """a and b."""
    noise: tuple[float, float]
    """s² and t²."""
    unknown: float
    """v."""

    @classmethod
    def of(cls, train: TrainingSet, weights: ExactWeights) -> Self:
        """Learn from the clicks of the warm items, and from what their attributes say in `weights`."""
        warm = weights.warm_items
        clicks = sp.csr_array(train.interactions[:, warm])
        y = np.log1p(train.clicks[warm].astype(np.float64))
        users, items = rows_of(clicks), clicks.indices
        length = np.diff(clicks.indptr)
        others = length[users] > 1
        users, items = users[others], items[others]
        total = np.asarray(clicks.astype(bool) @ y, np.float64)
        own = (total[users] - y[items]) / (length[users] - 1)
        n = np.bincount(items, minlength=len(warm)).astype(np.float64)
        told = n > 0
        q = _means(own, items, n)
        line = _least_squares(y[told], q[told])
        within = _means((own - q[items]) ** 2, items, n)
        spread = float((within * n).sum() / max((n - 1).clip(0).sum(), 1))
        errors = q[told] - line[0] - line[1] * y[told]
        between = max(float(np.mean(errors**2 - spread / n[told])), 0.0) if told.any() else 0.0
        chosen = np.unique(np.linspace(0, len(warm) - 1, min(_LEFT_OUT, len(warm))).astype(np.intp))
        missed = weights.missed(y - y.mean(), chosen)
        return cls(y, line, (between, spread), float(np.mean(missed**2)))

    def rise(self, clicks: sp.csr_array, new: sp.csr_array, weights: ExactWeights, cold: npt.NDArray[Any]) -> Double:
        """Return by how much the log clicks of new items are above what their attributes say ``[k]``.

        Parameters
        ----------
        clicks
            Of users on the warm items ``[U, W]``.
        new
            Of the same users on the new items ``[U, k]``; those who have no other click tell nothing.
        cold
            Where the new items are among the cold ones of `weights` ``[k]``.
        """
        length = np.diff(clicks.indptr)
        h = np.asarray(clicks.astype(bool) @ self.log_clicks, np.float64) / np.maximum(length, 1)
        users = rows_of(new)
        told = length[users] > 0
        users, items = users[told], new.indices[told]
        n = np.bincount(items, minlength=new.shape[1]).astype(np.float64)
        q = _means(h[users], items, n)
        (a, b), (between, spread) = self.line, self.noise
        mean = self.log_clicks.mean()
        expected = mean + (self.log_clicks - mean) @ weights.cold_means[:, cold]
        noise = b**2 * self.unknown + between + spread / np.maximum(n, 1)
        gain = self.unknown * b / np.maximum(noise, np.finfo(np.float64).tiny)
        return np.where(n > 0, gain * (q - a - b * expected), 0.0)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that :meth:`from_state` needs."""
        return {"log_clicks": self.log_clicks, "numbers": np.array([*self.line, *self.noise, self.unknown])}

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild what was learned."""
        a, b, between, spread, unknown = state["numbers"].tolist()
        return cls(state["log_clicks"], (a, b), (between, spread), unknown)


def _means(values: Double, places: npt.NDArray[Any], counts: Double) -> Double:
    """Return the mean of the values at each place, 0 where there is none."""
    return np.bincount(places, values, len(counts)) / np.maximum(counts, 1)


def _least_squares(x: Double, y: Double) -> tuple[float, float]:
    """Return the intercept and the slope of a line; flat where all x are the same."""
    if len(x) == 0 or np.ptp(x) == 0:
        return float(y.mean()) if len(y) else 0.0, 0.0
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    return float(y.mean() - slope * x.mean()), slope
