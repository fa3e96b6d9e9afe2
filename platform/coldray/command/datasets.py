"""The datasets there are: where they are found, and what is in one."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coldray.cli.lines import from_here
from coldray.cli.options.catalogue import DatasetsOptions
from coldray.core.errors import DataFileError
from coldray.data.filters import apply_filters
from coldray.data.sources.registry import SOURCES, Source, SourceConfig, load_dataset

_OWN = "files of your own: --interactions and --items"


def show_datasets(options: DatasetsOptions, console: Console) -> None:
    """Print a table of all datasets, or describe one.

    Raises
    ------
    DataError
        If the one that is named is not there, or cannot be read.
    """
    if options.dataset is not None or options.interactions is not None:
        _describe(options, console)
        return
    found, faults = SOURCES.usable
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("dataset", "where", "files"):
        table.add_column(column, overflow="fold", no_wrap=column == "dataset")
    for name, source in found.items():
        expected = source.location.expected if source.location else ""
        table.add_row(name, Text(_place(name, source, options)), Text(f"{expected} {SOURCES.package_of(name)}".strip()))
    console.print(table)
    for fault in faults:
        console.print(Text(fault, "red"))
    console.print("coldray datasets NAME describes one; --data-dir FOLDER, or COLDRAY_DATA, says where they are.")


def _place(name: str, source: Source, options: DatasetsOptions) -> str:
    if source.find is None:
        return {"sample": "generated", "csv": _OWN, "parquet": _OWN}.get(name, "")
    try:
        return str(from_here(source.find(SourceConfig(name=name, data_dir=options.data_dir))))
    except DataFileError:
        return "not there; --fetch downloads it" if source.downloads else "not there"


def _describe(options: DatasetsOptions, console: Console) -> None:
    source = options.source.model_copy(update={"download": options.fetch and not options.no_download})
    known = SOURCES[source.name]
    try:
        dataset = load_dataset(source)
    except DataFileError as error:
        if known.downloads and not options.fetch:
            raise DataFileError(f"{error} Or download it: coldray datasets {source.name} --fetch.") from error
        raise
    facts = list(dataset.facts)
    if known.scale is not None:
        facts.append(("rating scale", f"{known.scale[0]:g} to {known.scale[1]:g}"))
    if known.filters is not None:
        kept = apply_filters(dataset, known.filters)
        changed = known.filters.model_dump(exclude_defaults=True)
        facts += [
            ("filters of its protocol", ", ".join(f"{name}={value}" for name, value in changed.items())),
            ("left by them", repr(kept).partition(": ")[2].partition(";")[0]),
        ]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in facts:
        table.add_row(name, Text(f"{value:,}" if isinstance(value, int) else str(value)))
    console.print(Text(dataset.name + (" (synthetic)" if dataset.synthetic else ""), "bold"))
    console.print(table)
    for note in dataset.notes:
        console.print(Text(f"note: {note}"))
