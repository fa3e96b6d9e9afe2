"""The check of data: source → dataset → split → facts, factors and findings → report and export."""

from __future__ import annotations

import re
from functools import partial

from rich.console import Console
from rich.text import Text

from coldray.cli.jobs.tune import tell_notes
from coldray.cli.lines import from_here, timed
from coldray.cli.options.check import CheckOptions
from coldray.core.errors import DataError
from coldray.core.files import writable_folder
from coldray.data.sources.amazon.categories import category_sources
from coldray.data.sources.registry import SOURCES, SourceConfig, load_dataset, load_predefined, published_split
from coldray.data.splits.assignment import PartAssignment, drawn_parts, published_parts
from coldray.experiments.data_check import DataCheck, check_split
from coldray.reports.console import terminal
from coldray.reports.export import export
from coldray.reports.quality.report import VALUES, quality_report


def check_data(options: CheckOptions, console: Console) -> bool:
    """Run the job.

    A category that cannot be read is reported, and the others go on.

    Returns
    -------
    bool
        Whether everything was checked and nothing is a problem.

    Raises
    ------
    DataError
        If no category can be read.
    """
    sources = category_sources(options.source, options.category)
    left_out: dict[str, str] = {}
    problems = 0
    with writable_folder(options.output):
        for name, source in sources.items():
            try:
                problems += len(_check_one(name, source, options, console).of_level("problem"))
            except DataError as error:
                if len(sources) == 1:
                    raise
                left_out[name] = str(error)
                _say(console, f"{name} is left out: {error}")
        if len(left_out) == len(sources):
            raise DataError(f"None of the {len(sources)} categories could be read. {_listed(left_out)}")
    if left_out:
        console.print()
        console.print(Text(f"Left out: {_listed(left_out)}", "red"), soft_wrap=True)
    return not problems and not left_out


def _check_one(name: str, source: SourceConfig, options: CheckOptions, console: Console) -> DataCheck:
    """Read, check and export one dataset, and print what was found."""
    _say(console, f"reading {name}")
    split = _read_split(source, options)
    dataset = split.dataset
    if split.protocol == "predefined":
        _say(console, f"the split is the one that {name} is published with; --protocol draws another")
    tell_notes(dataset, partial(_say, console))
    unclicked = f" ({dataset.n_unclicked_items:,} of them without clicks)" if dataset.n_unclicked_items else ""
    _say(
        console,
        f"checking {dataset.name}, split {split.name}: {dataset.n_users:,} users × {dataset.n_items:,} items"
        f"{unclicked}, {dataset.interactions.nnz:,} interactions",
    )
    check = check_split(
        split,
        scale=options.rating_scale or SOURCES[source.name].scale,
        positives=options.rule,
        n_factors=options.n_factors,
        most_users=options.most_users,
        seed=options.seed,
    )
    report = quality_report(check)
    files = export(report, options.output / _folder_name(check), unlike=VALUES)
    console.print()
    console.print(terminal(report))
    console.print(f"Report: {from_here(files.written[0])}", soft_wrap=True, highlight=False, markup=False)
    return check


def _read_split(source: SourceConfig, options: CheckOptions) -> PartAssignment:
    """Return the data in the parts they are published in, or in those that the protocol draws."""
    if options.protocol is None:
        named = None if options.split is None else load_predefined(source, options.split)
        published = named or published_split(source)
        if published is not None:
            return published_parts(published)
    return drawn_parts(load_dataset(source), options.protocol, options.seed)


def _folder_name(check: DataCheck) -> str:
    """Return the name of the folder of a check: a number follows if another check has it."""
    name = str(check.dataset["name"])
    split = "" if name.endswith(check.split) else f"-{check.split}"
    return re.sub(r"[^\w.-]+", "-", f"check-{name}{split}")


def _say(console: Console, message: str) -> None:
    console.print(timed(message), highlight=False, soft_wrap=True)


def _listed(left_out: dict[str, str]) -> str:
    return " ".join(f"{name}: {reason}" for name, reason in left_out.items())
