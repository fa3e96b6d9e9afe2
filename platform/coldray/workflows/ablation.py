"""The ablation job: source → dataset → stages tuned and tested → tables, figures, export and MLflow."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from coldray import __version__
from coldray.atomic import writable_folder
from coldray.data.dataset import Dataset
from coldray.plots.ablation_console import console_ablation
from coldray.plots.ablation_export import AblationFiles, export_ablation
from coldray.tracking.ablation_runs import AblationTracker
from coldray.tracking.runs import check_reachable
from coldray.tuning.ablation import check_ablation, run_ablation
from coldray.tuning.ablation_result import AblationResult
from coldray.tuning.ablation_store import AblationStore
from coldray.tuning.listeners import Listeners
from coldray.tuning.space import StudyConfig, load_study
from coldray.workflows.ablation_progress import AblationProgress
from coldray.workflows.arguments import overrides, source_of
from coldray.workflows.cluster import connected_ray
from coldray.workflows.devices import check_this_process, check_workers
from coldray.workflows.lines import from_here
from coldray.workflows.tune import encode_texts, read_dataset


def ablate(options: argparse.Namespace, console: Console) -> AblationResult:
    """Run the job that the options of ``jobs/ablation.py`` describe.

    Everything that can be wrong is checked before anything takes long.
    """
    settings = {"splits.seeds": options.seeds, **overrides(options.settings)}
    config = load_study(options.study, settings)
    source = source_of(options)
    output = options.output_dir.absolute()
    with AblationProgress(console) as progress, writable_folder(output):
        check_reachable(options.tracking_uri)
        dataset = read_dataset(source, config, progress)
        check_ablation(config, dataset)
        check_this_process(config)
        result, files = _run_and_publish(config, dataset, output, options, progress)
    console.print()
    console.print(console_ablation(result))
    for name, path in (("Report", files.report), ("Export", files.archive)):
        console.print(f"{name}: {from_here(path)}", soft_wrap=True, highlight=False)
    return result


def _run_and_publish(
    config: StudyConfig, dataset: Dataset, output: Path, options: argparse.Namespace, progress: AblationProgress
) -> tuple[AblationResult, AblationFiles]:
    """Run an ablation that has been checked; return its result, and what was written."""
    progress.stage(f"opening the tracking server {options.tracking_uri}")
    tracker = AblationTracker(options.tracking_uri, options.experiment, artifact_location=output.parent / "mlartifacts")
    encode_texts(config, dataset, progress)
    state = output / "ablation-state" / state_name(config, dataset)
    if options.fresh:
        shutil.rmtree(state, ignore_errors=True)
    if state.is_dir():
        progress.stage(f"going on with the unfinished ablation in {state}; --fresh begins anew")
    study_id = f"ablation-{dataset.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    with connected_ray(options.ray_address, options.cpus, progress), tracker:
        check_workers(config)
        result = run_ablation(
            config,
            dataset,
            study_id=study_id,
            store=AblationStore(state),
            listener=Listeners(progress, tracker),
        )
        progress.stage("drawing figures and writing the report")
        files = export_ablation(result, output / study_id)
        tracker.log_ablation(
            result, [files.archive, files.report, files.results, files.summary, files.config, *files.pictures]
        )
    shutil.rmtree(state, ignore_errors=True)
    with suppress(OSError):  # another ablation keeps its state there
        state.parent.rmdir()
    return result, files


def state_name(config: StudyConfig, dataset: Dataset) -> str:
    """Name the state of an ablation by all that its results depend on: another study never goes on with it."""
    content = json.dumps([config.model_dump(mode="json"), dataset.fingerprint, __version__], sort_keys=True)
    return f"{config.name}-{dataset.name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
