"""The ablation job: source → dataset → stages tuned and tested → tables, figures, export and MLflow."""

from __future__ import annotations

import shutil

from rich.console import Console

from coldray.cli.devices import check_this_process, check_workers
from coldray.cli.jobs.tune import check_servers, read_dataset, settings_of, tracking
from coldray.cli.lines import from_here
from coldray.cli.options.studies import AblationOptions
from coldray.cli.progress.ablation import AblationProgress
from coldray.cli.ray.cluster import connected_ray
from coldray.cli.texts import encode_texts
from coldray.core.files import writable_folder
from coldray.experiments.ablation.result import AblationResult
from coldray.experiments.ablation.run import prepare_ablation, run_ablation
from coldray.experiments.ablation.store import AblationStore
from coldray.experiments.listeners import Listeners
from coldray.experiments.prepared import PreparedStudy
from coldray.experiments.record.folder import StudyIdentity, open_study
from coldray.experiments.space import load_study
from coldray.reports.ablation.report import ablation_report
from coldray.reports.console import terminal
from coldray.reports.export import ReportFiles, export
from coldray.reports.report import Report
from coldray.tracking.comparison_runs import AblationTracker

_STATE = "folds"
"""What has been computed of each fold, in the folder of the ablation, until it is finished."""


def ablate(options: AblationOptions, console: Console) -> AblationResult:
    """Run the job of ``jobs/ablation.py``.

    Everything that can be wrong is checked before anything takes long.
    """
    config = load_study(options.file, {"splits.seeds": options.seeds, **options.settings})
    with AblationProgress(console) as progress, writable_folder(options.output):
        check_servers(options)
        dataset = read_dataset(options.source_for(config.data), config, progress)
        study = prepare_ablation(config, dataset)
        check_this_process(config)
        result, report, files = _run_and_publish(study, options, progress)
    console.print()
    console.print(terminal(report))
    for name, path in (("Report", files.written[0]), ("Export", files.archive)):
        console.print(f"{name}: {from_here(path)}", soft_wrap=True, highlight=False)
    return result


def _run_and_publish(
    study: PreparedStudy, options: AblationOptions, progress: AblationProgress
) -> tuple[AblationResult, Report, ReportFiles]:
    """Run an ablation that has been checked; return its result, its report, and what was written."""
    config, dataset = study.config, study.dataset
    identity = StudyIdentity("ablation", "ablation", dataset.name, dataset.fingerprint, settings_of(study.written))
    with (
        open_study(
            options.output, identity, resume=options.resume, command=options.command, say=progress.stage
        ) as folder,
        connected_ray(options.ray_address, options.cpus, progress),
        tracking(AblationTracker, folder, options, progress) as tracker,
    ):
        encode_texts(study, progress)
        check_workers(config)
        record = folder.record()
        result = run_ablation(
            study,
            study_id=folder.id,
            store=AblationStore(folder.path / _STATE),
            listener=Listeners(record, progress, tracker),
            record=record,
        )
        progress.stage("drawing figures and writing the report")
        report = ablation_report(result)
        files = export(report, options.output / folder.id)
        tracker.log_ablation(result, [files.archive, *files.written])
        shutil.rmtree(folder.path / _STATE, ignore_errors=True)
    return result, report, files
