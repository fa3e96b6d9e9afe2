"""What is measured of a winner besides its metrics, in the process that fits it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from coldray.evaluation.metrics import RankingMetrics
from coldray.experiments.evaluation import Candidates, EvaluationFold
from coldray.experiments.inspection.config import InspectionConfig
from coldray.experiments.inspection.costs import Costs, FitMeter, score_seconds
from coldray.experiments.inspection.item_map import ItemMap, item_map
from coldray.experiments.inspection.slices import SliceMetrics, slice_metrics
from coldray.models.base import Recommender


@dataclass(frozen=True, eq=False)
class Inspection:
    """A winner on one fold."""

    costs: Costs
    slices: Mapping[str, SliceMetrics]
    """By name, as in :data:`~coldray.experiments.inspection.slices.SLICES`."""
    map: ItemMap | None
    """Of the first fold alone."""


def inspect(
    model: Recommender[Any],
    task: EvaluationFold,
    fit: FitMeter,
    measured: RankingMetrics,
    *,
    config: InspectionConfig,
    candidates: Candidates,
    cutoffs: tuple[int, ...],
    mapped: bool,
) -> Inspection:
    """Measure what `config` asks for of a fitted model.

    Parameters
    ----------
    fit
        What its fit took.
    measured
        Its metrics.
    mapped
        Draw the map of items.
    """
    items = task.held_out_items if candidates == "cold" else np.arange(model.n_items, dtype=np.int32)
    costs = Costs(fit.seconds, fit.peak_bytes, score_seconds(model, task, items, config.timed_users))
    slices = slice_metrics(model, task, measured, config=config, candidates=candidates, cutoffs=cutoffs)
    drawn = None
    if mapped and config.mapped_items:
        drawn = item_map(model, task.train, count=config.mapped_items, neighbours=config.neighbours, seed=config.seed)
    return Inspection(costs, slices, drawn)
