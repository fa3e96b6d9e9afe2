"""How long it takes to turn scores into lists and lists into metrics."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from figures import best_of, figure

from coldray.evaluation.metrics import ranking_metrics
from coldray.evaluation.ranking import Ranking
from coldray.evaluation.topk import top_k

USERS, ITEMS, LIST_LENGTH = 6040, 3260, 50


@figure("ranking_seconds", unit="s", bar=0.3, better="lower")
def ranking_seconds() -> float:
    """Top 50 of given scores of 6,040 users × 3,260 items, and hr, ndcg, recall and map at 10, 25 and 50."""
    generator = np.random.default_rng(0)
    scores = generator.standard_normal((USERS, ITEMS), dtype=np.float32)
    relevant = sp.random_array((USERS, ITEMS), density=0.05, format="csr", dtype=np.float32, rng=generator)
    users = np.arange(USERS, dtype=np.int32)

    def evaluate() -> None:
        items, values = top_k(scores, LIST_LENGTH)
        ranking = Ranking(items, values, users)
        ranking_metrics(ranking, relevant, (10, 25, 50), ("hr", "ndcg", "recall", "map"), n_candidates=ITEMS)

    return best_of(evaluate, runs=7)
