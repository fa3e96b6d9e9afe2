"""KernelAlign on ``ml1m-hetrec``: against MARec, and how fast it is."""

from __future__ import annotations

import resource
import sys
import time

from figures import figure
from marec_figures import CUTOFFS, MEASURED, dataset, split_0_task

from coldray.data.splits import cold_item_splits
from coldray.features.builder import FeatureConfig
from coldray.models.kernel_align import KernelAlign, KernelAlignConfig
from coldray.models.marec import MARec
from coldray.tuning.evaluation import evaluate
from coldray.tuning.folds import prepare_task

STRICT = KernelAlignConfig(alpha=0.2, ridge=6.0)
"""The attributes MARec uses, and nothing tuned."""


@figure("kernel_strict_ndcg10", unit="ndcg@10", bar=0.365, better="higher")
def strict() -> float:
    """Mean test ndcg@10 of three splits, beside that of MARec at λ₁ = 1000."""
    found: dict[str, list[dict[str, float]]] = {"KernelAlign, strict": [], "MARec, λ₁ = 1000": []}
    for split in cold_item_splits(dataset(), n_splits=3, seed=42):
        task = prepare_task(split.test_fold, FeatureConfig())
        for name, model in (("KernelAlign, strict", KernelAlign(STRICT)), ("MARec, λ₁ = 1000", MARec(MEASURED))):
            metrics = evaluate(model.fit(task.train), task, candidates="cold", cutoffs=CUTOFFS).means()
            found[name].append(metrics)
    print("| model | hr@10 | ndcg@10 | hr@50 |\n|---|---|---|---|", file=sys.stderr)
    means = {
        name: {key: sum(fold[key] for fold in folds) / len(folds) for key in folds[0]} for name, folds in found.items()
    }
    for name, metrics in means.items():
        print(
            f"| {name} | {metrics['hr@10']:.4f} | {metrics['ndcg@10']:.4f} | {metrics['hr@50']:.4f} |", file=sys.stderr
        )
    return means["KernelAlign, strict"]["ndcg@10"]


@figure("kernel_fit_seconds", bar=5.0)
@figure("kernel_fit_peak_gb", unit="GB", bar=2.0)
def one_fit() -> dict[str, float]:
    """From a loaded dataset to test metrics, and the peak of the whole process."""
    dataset()
    start = time.perf_counter()
    task = split_0_task()
    evaluate(KernelAlign(STRICT).fit(task.train), task, candidates="cold", cutoffs=CUTOFFS)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"kernel_fit_seconds": seconds, "kernel_fit_peak_gb": peak}
