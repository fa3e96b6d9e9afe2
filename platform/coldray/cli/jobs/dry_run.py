"""What a study or a comparison would do: data read and divided, one fit of each model, no more; nothing is written."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coldray.cli.devices import check_this_process
from coldray.cli.jobs.tune import read_data
from coldray.cli.lines import timed
from coldray.cli.options.studies import ComparisonOptions, StudyOptions
from coldray.cli.progress.study import StudyProgress
from coldray.cli.texts import embedded_texts
from coldray.core.device import cpu_count
from coldray.core.errors import ColdrayError
from coldray.core.memory import GIB, fit_bytes
from coldray.data.dataset import Dataset
from coldray.experiments.comparison.config import load_comparison
from coldray.experiments.comparison.run import check_comparison
from coldray.experiments.prepared import PreparedStudy, describe_dataset
from coldray.experiments.search.memory import largest_fit_bytes
from coldray.experiments.search.probe import Probe, probe_study
from coldray.experiments.space import load_study
from coldray.experiments.study import prepare_study
from coldray.features.text_embeddings import EmbeddingConfig, Rehearsal, rehearse
from coldray.reports.labels import counted, duration_label
from coldray.training.progress import TrainingPlace


@dataclass(frozen=True)
class _Cost:
    """What a study takes."""

    study: PreparedStudy
    memory: int
    """Of the largest fit, in bytes."""
    slots: int
    """Trials side by side."""
    probe: Probe | None
    reason: str = ""
    """Why there is no probe."""
    texts: Rehearsal | None = None
    """What embedding takes, if texts are embedded."""

    @property
    def fits(self) -> int:
        return self.study.config.n_trials * len(self.study.splits)

    @property
    def seconds(self) -> float | None:
        """How long all fits may take."""
        sizes = self.study.config.n_trials, len(self.study.splits), self.slots
        return None if self.probe is None else self.probe.study_seconds(*sizes)

    @property
    def embedding(self) -> float:
        """Seconds of the texts, before the first fit."""
        return 0.0 if self.texts is None else self.texts.seconds


def dry_study(options: StudyOptions, console: Console) -> None:
    """Say what a study would do.

    Raises
    ------
    ColdrayError
        What the study itself would raise before it begins.
    """
    config = load_study(options.file, options.settings)
    progress = StudyProgress(console)
    dataset, published = read_data(options.source_for(config.data), config, progress)
    study = prepare_study(config, dataset, published)
    check_this_process(config)
    cost = _cost(config.model, study, options.cpus, progress)
    _print_data(console, dataset, study)
    facts = {f"study {config.name}": _trials_words(cost), "texts": _text_words(cost), **_shared_words(cost)}
    facts["memory"] = _memory_words(cost)
    _print_facts(console, {**facts, "form": " ".join(form.told for form in study.settled.forms)})
    _print_time(console, cost.seconds, cost.embedding, cost.slots, options.ray_address, cost.reason)


def dry_comparison(options: ComparisonOptions, console: Console) -> None:
    """Say what a comparison would do.

    Raises
    ------
    ColdrayError
        What the comparison itself would raise before it begins.
    """
    comparison = load_comparison(options.file, options.settings, trials=options.trials, models=options.entries)
    progress = StudyProgress(console)
    dataset, published = read_data(options.source_for(comparison.config.data), comparison.config, progress)
    checked = check_comparison(comparison, dataset, progress, published)
    costs = {}
    for name, study in checked.studies.items():
        check_this_process(study.config)
        costs[name] = _cost(name, study, options.cpus, progress)
    _print_data(console, dataset, next(iter(checked.studies.values())))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("entry", "model", "trials", "fits", "shared", "largest fit", "first fit", "study"):
        table.add_column(column, justify="left" if column in ("entry", "model") else "right")
    for name, cost in costs.items():
        probe, seconds = cost.probe, cost.seconds
        shown = ("?", "?")
        if probe is not None and seconds is not None:
            shown = duration_label(probe.sharing + probe.fitting), duration_label(seconds)
        table.add_row(
            name,
            cost.study.config.model,
            f"{cost.study.config.n_trials:,}",
            f"{cost.fits:,}",
            "?" if probe is None else f"{probe.shared:,}",
            _gib(cost.memory),
            *shown,
        )
    console.print(table)
    _print_facts(console, {f"texts of {name}": _text_words(cost) for name, cost in costs.items()})
    reasons = [f"{name}: {cost.reason}" for name, cost in costs.items() if cost.reason]
    known = [cost.seconds for cost in costs.values() if cost.seconds is not None]
    total = None if reasons else sum(known)
    # Entries find in the cache what those before them have embedded.
    slots, embedding = max(cost.slots for cost in costs.values()), max(cost.embedding for cost in costs.values())
    _print_time(console, total, embedding, slots, options.ray_address, " ".join(reasons))


def _cost(name: str, study: PreparedStudy, cpus: int | None, progress: StudyProgress) -> _Cost:
    """Fit a model once, and reckon with that."""
    config, data = study.config, study.dataset
    slots = max(1, min(cpus or cpu_count(), config.n_trials, config.search.max_concurrent))
    memory = largest_fit_bytes(config, data.n_users, data.n_items)
    with tempfile.TemporaryDirectory(prefix="coldray-") as folder:
        probed, rehearsal, texts = study, None, [text for one in embedded_texts(study).values() for text in one]
        if texts:
            progress.stage(f"embedding a few texts with {config.features.embedding_model}")
            features = config.features
            encoder = EmbeddingConfig(model=features.embedding_model, cache_folder=features.embedding_cache)
            try:
                rehearsal = rehearse(texts, encoder, Path(folder))
            except ColdrayError as error:
                return _Cost(study, memory, slots, None, f"texts have to be embedded before the first fit. {error}")
            stand_ins = features.model_copy(update={"embedding_cache": Path(folder)})
            probed = replace(study, config=config.model_copy(update={"features": stand_ins}))
        progress.stage(f"fitting {name} once, with the first configuration on the first split")
        try:
            probe = probe_study(probed, progress.training_of(TrainingPlace("the first configuration")))
            return _Cost(study, memory, slots, probe, texts=rehearsal)
        except ColdrayError as error:
            return _Cost(study, memory, slots, None, f"the first fit failed: {error}", rehearsal)


def _print_data(console: Console, dataset: Dataset, study: PreparedStudy) -> None:
    facts = describe_dataset(dataset, study.config)
    clicked = facts["n_items"] - facts["n_unclicked_items"]
    words = f"{facts['n_users']:,} users, {facts['n_items']:,} items ({clicked:,} with interactions), "
    words += f"{facts['n_interactions']:,} interactions, density {facts['density']:.3%}"
    read = {"attributes": ", ".join(facts["attributes"]) or "none is read"}
    if "user_attributes" in facts:
        read["attributes of users"] = ", ".join(facts["user_attributes"]) or "none is known"
    if "moment_features" in facts:
        read["features of moments"] = ", ".join(facts["moment_features"]) or "none is read"
    protocol = {key: text for key, text in study.protocol().items() if key not in ("form", "metrics")}
    _print_facts(console, {f"dataset {dataset.name}": words, **read, **protocol})


def _trials_words(cost: _Cost) -> str:
    config = cost.study.config
    trials, splits = counted(config.n_trials, "trial"), counted(len(cost.study.splits), "split")
    return f"{trials} by {config.search.algorithm} on {splits}: {cost.fits:,} fits of {config.model}"


def _text_words(cost: _Cost) -> str:
    """Return what embedding takes, or nothing where there is none."""
    if cost.texts is None:
        return ""
    if not cost.texts.missing:
        return "all embedded before"
    took = duration_label(cost.texts.seconds)
    return f"{counted(cost.texts.missing, 'text')} to embed, about {took} on this machine by a few of them"


def _shared_words(cost: _Cost) -> Mapping[str, str]:
    if cost.probe is None:
        return {}
    probe = cost.probe
    words = f"{probe.shared:,} a split for one configuration, {duration_label(probe.sharing)}; each is computed once"
    return {"shared computations": words if probe.shared else "none"}


def _memory_words(cost: _Cost) -> str:
    return f"the largest fit takes {_gib(cost.memory)}; {_gib(fit_bytes())} is free for one here"


def _gib(size: int) -> str:
    if not size:
        return "an unknown size"
    return f"{size / GIB:,.1f} GiB" if size >= 0.1 * GIB else f"{max(size / 2**20, 1):,.0f} MiB"


def _print_facts(console: Console, facts: Mapping[str, str]) -> None:
    for name, words in facts.items():
        if words:
            console.print(Text.assemble((f"{name}: ", "bold"), words), soft_wrap=True)


def _print_time(
    console: Console, seconds: float | None, embedding: float, slots: int, address: str, reason: str
) -> None:
    words = f"no estimate: {reason}"
    if seconds is not None:
        words = f"embedding takes about {duration_label(embedding)}; " if embedding else ""
        words += (
            f"all fits take about {duration_label(seconds)} with {counted(slots, 'trial')} at once, an estimate by "
        )
        words += "one fit here; the start of Ray, the test and the report come on top"
        words += "" if address == "local" else f", for a cluster like this machine; {address} was not asked"
    _print_facts(console, {"time": words})
    console.print(timed("nothing was written; without --dry-run it runs"), highlight=False)
