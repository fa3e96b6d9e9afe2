"""How a model does on warm items, on cold ones, and on both: the tasks of the field's cold split.

============  ==================================================================  =====================================
task          what competes                                                       what is to be found
============  ==================================================================  =====================================
``warm``      items with a train click                                            held-out clicks on them
``cold``      cold items, in the test those of validation too                     held-out clicks on cold items
``overall``   every item                                                          both, of the users who have both
============  ==================================================================  =====================================

What is known of a user is never ranked, nor, in the test, what validated. A measure is a mean over the users who have
something to be found and a known click: ``overall.ndcg@20``. Masks and users are those of GAR and ALDI; ColdRec has
the same tasks, but ranks what validated in its tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from coldray.core.errors import EmptyDatasetError
from coldray.data.dataset import keep_entries
from coldray.evaluation.metrics import RankingMetrics, ranking_metrics
from coldray.experiments.evaluation import Candidates, EvaluationFold, predicted_ratings, rank_items
from coldray.models.base import Recommender

MIXED_TASKS = ("warm", "cold", "overall")
_DECIDING: Mapping[Candidates, str] = {"cold": "cold", "all": "overall"}
"""The task whose metrics are those of a fold, by what competes."""


def evaluate_mixed(
    model: Recommender[Any], task: EvaluationFold, *, candidates: Candidates, cutoffs: tuple[int, ...]
) -> RankingMetrics:
    """Return the metrics of a fitted model on a fold with cold items beside warm ones; the tasks are its parts.

    The metrics themselves are those of ``cold`` where `candidates` are ``cold``, else of ``overall``.

    Raises
    ------
    EmptyDatasetError
        If nobody has anything to be found in a task.
    """
    held_out, n_items = task.relevance(), model.n_items
    cold = np.zeros(n_items, np.bool_)
    cold[task.held_out_items] = True
    on_cold, on_warm = (keep_entries(held_out, side[held_out.indices]) for side in (cold, ~cold))
    has_both = (np.diff(on_cold.indptr) > 0) & (np.diff(on_warm.indptr) > 0)
    relevant = {
        "warm": on_warm,
        "cold": on_cold,
        "overall": keep_entries(held_out, np.repeat(has_both, np.diff(held_out.indptr))),
    }
    items = {
        "warm": task.train.warm_items,
        "cold": task.held_out_items,
        "overall": np.arange(n_items, dtype=np.int32),
    }
    found = {}
    for name in MIXED_TASKS:
        ranking = rank_items(model, task, items[name], max(cutoffs), exclude=True)
        if not np.diff(relevant[name].indptr)[ranking.users].any():
            raise EmptyDatasetError(
                f"{task.train.key}: nobody with a known click has anything to be found in the task {name}."
            )
        found[name] = ranking_metrics(
            ranking, relevant[name], cutoffs, n_candidates=len(items[name]), graded=task.graded
        )
    deciding = found[_DECIDING[candidates]]
    ratings = predicted_ratings(model, task) if task.ratings else None
    return replace(deciding, ratings=ratings, parts={name: one.leading() for name, one in found.items()})
