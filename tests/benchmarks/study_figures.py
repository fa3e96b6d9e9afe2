"""Studies that survive: what an interruption costs, and what the platform costs beside the bare computation."""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from figures import figure
from marec_figures import dataset, running_ray
from mlflow.tracking import MlflowClient

from coldray.data.sources.sample import sample_dataset
from coldray.experiments.evaluation import RankingCache, evaluate
from coldray.experiments.folds import prepare_task
from coldray.experiments.search.run import search
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import draw_splits, prepare_study, run_study
from coldray.features.builder import FeatureConfig
from coldray.models.computations import Computations
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.model import MARec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from contracts.jobs import STUDY, StudyJob, end

KILLS = (7, 24, 45)
"""Trials that have ended when the driver is killed."""
SIXTY = {
    **STUDY,
    "space": {
        **STUDY["space"],
        "lambda_1": {"choice": [float(10**power) for power in range(5)]},
        "alpha": {"choice": [0.1, 0.5, 1.0, 2.0]},
        "beta": {"choice": [1.0, 10.0, 100.0]},
    },
}
GRID = {
    "name": "overhead",
    "model": "marec",
    "space": {
        "lambda_1": {"choice": [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 5000.0, 10000.0]},
        "beta": {"choice": [1.0, 10.0, 50.0, 100.0, 200.0]},
        "alpha": {"choice": [0.1, 0.5, 1.0, 2.0]},
        "delta": 20.0,
        "w0": 0.2,
        "order": 2,
    },
    "search": {"algorithm": "grid"},
    "splits": {"n_splits": 3},
    "candidates": "all",
    "cutoffs": [10, 25, 50],
}


AXES = [GRID["space"][name]["choice"] for name in ("lambda_1", "beta", "alpha")]


@figure("resume_missing_or_double_runs", unit="", bar=0)
@figure("resume_repeated_trials", unit="", bar=0)
def killed_thrice() -> dict[str, float]:
    """60 trials, the driver killed three times.

    Trials or runs that are missing or double, or have other metrics, and another winner, than where nobody disturbed
    the study; and trials that were run again, but for those at work when the driver was killed.
    """
    with running_ray():
        undisturbed = run_study(
            prepare_study(StudyConfig.model_validate(SIXTY), sample_dataset()), study_id="undisturbed"
        )
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        job = StudyJob(Path(folder), uri, study=SIXTY, slow_seconds=0.1)
        in_flight: Counter[int] = Counter()
        for kill_at in KILLS:
            process = job.start("--resume")
            try:
                job.wait_for(lambda at=kill_at: len(job.events("trial_ended")) >= at, process, timeout=400)
            finally:
                end(process)
            ended = {event["trial"] for event in job.events("trial_ended")}
            latest = max(place for place, event in enumerate(job.events()) if event["event"] == "process")
            begun = {event["trial"] for event in job.events()[latest:] if event["event"] == "trial_started"}
            in_flight.update(begun - ended)
            print(f"killed with {len(ended)} ended, {sorted(begun - ended)} at work", file=sys.stderr)
        status, printed = job.run("--resume", timeout=600)
        if status:
            raise RuntimeError(printed)
        ended_times = Counter(event["trial"] for event in job.events("trial_ended"))
        client = MlflowClient(uri, uri)
        experiment = client.get_experiment_by_name("chaos")
        runs = client.search_runs([experiment.experiment_id], "tags.`coldray.kind` = 'trial'", max_results=1000)
        logged = Counter(int(run.data.tags["coldray.trial"]) for run in runs if run.info.status == "FINISHED")
        parents = client.search_runs([experiment.experiment_id], "tags.`coldray.kind` = 'study'")
        wrong = sum(abs(times[number] - 1) for times in (ended_times, logged) for number in range(60))
        wrong += len(parents) - 1 + sum(run.info.status != "FINISHED" for run in [*runs, *parents])
        wrong += parents[0].data.tags["coldray.winner_trial"] != str(undisturbed.selection.winner.number)
        results = job.results()
        wrong += sum(
            [metrics["ndcg@10"] for metrics in results[trial.number][1]]
            != [fold.metrics["ndcg@10"] for fold in trial.folds]
            for trial in undisturbed.trials
        )
        started = Counter(event["trial"] for event in job.events("trial_started"))
        repeated = sum(max(times - 1 - in_flight[number], 0) for number, times in started.items())
        print(f"{len(runs)} runs, {sum(started.values())} starts of 60 trials", file=sys.stderr)
        return {"resume_missing_or_double_runs": float(wrong), "resume_repeated_trials": float(repeated)}


@figure("study_overhead_share", unit="", bar=0.25)
def overhead() -> float:
    """200 trials of a λ × β × α grid on three splits, all candidates: what a search takes beyond a loop in one process.

    The loop shares computations and rankings between its configurations as the platform does, and has both CPUs for
    its matrix products. Ray is up in both cases.
    """
    config = StudyConfig.model_validate(GRID)
    splits = [split.for_tuning() for split in draw_splits(dataset(), config)]
    start = time.perf_counter()
    for split in splits:
        task = prepare_task(split.fold, FeatureConfig())
        shared, cached = Computations(), RankingCache(32)
        for lambda_1, beta, alpha in itertools.product(*AXES):
            point = MARecConfig(lambda_1=lambda_1, beta=beta, alpha=alpha, delta=20.0, w0=0.2, order=2)
            fitted = MARec(point).fit(task.train, shared)
            evaluate(fitted, task, candidates="all", cutoffs=(10, 25, 50), cache=cached)
    bare = time.perf_counter() - start
    with running_ray():
        start = time.perf_counter()
        search(config, splits, study_id="overhead")
        platform = time.perf_counter() - start
    print(f"bare {bare:.1f} s, platform {platform:.1f} s", file=sys.stderr)
    return platform / bare - 1
