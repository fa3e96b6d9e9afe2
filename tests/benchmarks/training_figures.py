"""Training by several workers against one, and the ablation of MARec's learned refinements on real data."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import ray
import ray.cloudpickle
from figures import data_folder, figure
from torch import nn

from coldray.cli.ray.cluster import start_ray
from coldray.data.sources.registry import SourceConfig, load_dataset
from coldray.data.splits.items import cold_item_splits
from coldray.experiments.ablation.result import AblationResult, ModeResult
from coldray.experiments.ablation.run import _stage_of, prepare_ablation, run_ablation
from coldray.experiments.folds import prepare_task
from coldray.experiments.listeners import StudyListener
from coldray.experiments.results import mean_metric
from coldray.experiments.space import load_study
from coldray.features.builder import FeatureConfig
from coldray.models.neural.inputs import AttributeInputs
from coldray.models.profiles import item_profiles
from coldray.models.transfer.carec import CARecConfig, ContrastiveTowers
from coldray.models.transfer.training import HeldOut, TransferTask
from coldray.training.history import TrainingResult
from coldray.training.options import FitOptions
from coldray.training.task import Batch, Loss, Step
from coldray.training.trainer import train

# Ray's workers do not find the benchmarks.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

Task = TypeVar("Task", bound=TransferTask)

STUDY = Path(__file__).resolve().parents[2] / "tune_spaces" / "marec_plus.yaml"
SEEDS = [42, 43]
CAREC = CARecConfig()
"""CA-Rec as it is by default, dropout included: draws do not depend on the number of workers."""
KILLED_EPOCH = 4.5
"""Epochs done when worker 1 dies: in the middle of the fifth."""


class DyingTask(TransferTask):
    """CA-Rec's training, in which worker 1 kills its own process once, in mid-epoch, and leaves the file behind."""

    kill: Path

    def loss(self, module: nn.Module, batch: Batch, step: Step) -> Loss:
        if step.workers.rank == 1 and step.progress >= KILLED_EPOCH and not self.kill.exists():
            self.kill.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(module, batch, step)


def carec_task(config: CARecConfig, kind: type[Task]) -> Task:
    """Return CA-Rec's training on ml-100k: the warm items of split 0 of seed 42, a tenth of them held out."""
    source = SourceConfig(name="ml-100k", data_dir=data_folder("ml-100k"))
    split = next(cold_item_splits(load_dataset(source), n_splits=1, seed=42))
    data = prepare_task(split.test_fold, FeatureConfig()).train
    inputs = AttributeInputs.of(data).encode(data.features.take(data.warm_items))
    held_out = HeldOut.of(data, config.validation_share, np.random.default_rng(config.seed))
    if held_out is None:
        raise ValueError("No user of ml-100k has clicks on both sides of the validation.")
    return kind(ContrastiveTowers, config, inputs, item_profiles(data, dim=config.profile_dim), held_out)


def told(name: str, result: TrainingResult, seconds: float) -> float:
    """Print how a training went and return its validation metric."""
    metric = result.best_metric
    if metric is None:
        raise ValueError(f"{name}: nothing was validated.")
    epochs = f"{len(result.history)} epochs, the best is {result.best_epoch}"
    print(f"{name}: {TransferTask.metric} {metric:.6f} ({epochs}, {seconds:.1f} s)", file=sys.stderr)
    return metric


def trained(name: str, task: TransferTask, config: CARecConfig, workers: int = 1) -> tuple[TrainingResult, float]:
    """Train and return the result with its validation metric."""
    start = time.perf_counter()
    result = train(task, config, FitOptions(workers=workers))
    return result, told(name, result, time.perf_counter() - start)


@figure("two_workers_gap", unit="ndcg@10", bar=0.005)
@figure("evaluation_two_workers_gap", unit="ndcg@10", bar=1e-6)
@figure("killed_worker_gap", unit="ndcg@10", bar=1e-3)
def several_workers() -> dict[str, float]:
    """CA-Rec on ml-100k by one worker, by two, and by two of which one dies: best validation ndcg@10."""
    start_ray(cpus=2)
    try:
        task = carec_task(CAREC, TransferTask)
        _, alone = trained("1 worker", task, CAREC)
        _, together = trained("2 workers", task, CAREC, workers=2)
        still = CAREC.model_copy(update={"learning_rate": 1e-20, "epochs": 1})  # the first weights are those of both
        by_one, by_two = (trained(f"validation by {n}", task, still, workers=n)[1] for n in (1, 2))
        with tempfile.TemporaryDirectory() as folder:
            dying = carec_task(CAREC, DyingTask)
            dying.kill = Path(folder) / "killed"
            _, interrupted = trained("2 workers, one killed", dying, CAREC, workers=2)
            if not dying.kill.exists():
                raise RuntimeError(f"The training ended before epoch {KILLED_EPOCH:g}: no worker was killed.")
    finally:
        ray.shutdown()
    return {
        "two_workers_gap": abs(alone - together),
        "evaluation_two_workers_gap": abs(by_one - by_two),
        "killed_worker_gap": abs(together - interrupted),
    }


@figure("stack_over_marec_ndcg10", unit="×", bar=1.0, better="higher")
@figure("ablation_ml1m_seconds", bar=720.0)
def ml1m_ablation() -> dict[str, float]:
    """The full stack over tuned MARec in mean test ndcg@10, 2 seeds × 3 splits, and how long tuning and test took."""
    result, seconds = ablation("ml1m-hetrec")
    baseline, *_, full = result.modes
    ratio = mean_metric(full.folds, "ndcg@10") / mean_metric(baseline.folds, "ndcg@10")
    return {"stack_over_marec_ndcg10": ratio, "ablation_ml1m_seconds": seconds}


@figure("ablation_100k_seconds", bar=60.0)
def ml100k_ablation() -> float:
    """The same ablation on ml-100k."""
    return ablation("ml-100k")[1]


class Telling(StudyListener):
    """Prints the stages with the seconds since the start."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def stage(self, message: str) -> None:
        print(f"{time.perf_counter() - self.start:6.1f} s  {message}", file=sys.stderr, flush=True)


def ablation(name: Literal["ml1m-hetrec", "ml-100k"]) -> tuple[AblationResult, float]:
    """Run the ablation on a dataset and print its table; return the result and the seconds after Ray is up."""
    dataset = load_dataset(SourceConfig(name=name, data_dir=data_folder(name)))
    config = load_study(STUDY, {"splits.seeds": SEEDS})
    start_ray()
    try:
        start = time.perf_counter()
        result = run_ablation(prepare_ablation(config, dataset), study_id=f"ablation-{name}", listener=Telling())
        seconds = time.perf_counter() - start
    finally:
        ray.shutdown()
    print_table(result, config.searched)
    return result, seconds


def print_table(result: AblationResult, searched: tuple[str, ...]) -> None:
    """Print the modes as a Markdown table; lifts, intervals and p-values are those of ndcg@10 over users."""
    columns = ["mode", "hr@10", "ndcg@10", "hr@50", "lift", "95 % interval", "adjusted p", "tuned"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", file=sys.stderr)
    for mode in result.modes:
        print(f"| {' | '.join(cells(mode, searched))} |", file=sys.stderr)


def cells(mode: ModeResult, searched: tuple[str, ...]) -> list[str]:
    """Return the row of a mode: means and standard deviations are over folds."""
    spread = np.std([fold.metrics["ndcg@10"] for fold in mode.folds], ddof=1)
    ndcg = f"{mean_metric(mode.folds, 'ndcg@10'):.4f} ± {spread:.4f}"
    lift, interval, p = "", "", ""
    if "ndcg@10" in mode.lifts:
        found = mode.lifts["ndcg@10"]
        lift = f"{found.difference:+.4f} ({found.relative:+.1%})"
        interval, p = (
            f"[{found.low:+.4f}, {found.high:+.4f}]",
            "< 0.001" if found.p_adjusted < 0.001 else f"{found.p_adjusted:.3f}",
        )
    reached = {None, *mode.name.strip("+").lower().split("+")}
    tuned = ", ".join(
        f"{key}={mode.config[key]:g}"
        for key in searched
        if isinstance(mode.config[key], int | float) and _stage_of(key) in reached
    )
    hits = [f"{mean_metric(mode.folds, metric):.4f}" for metric in ("hr@10", "hr@50")]
    return [mode.name, hits[0], ndcg, hits[1], lift, interval, p, tuned]
