"""A model fitted on a dataset or on the train part of a split, and measured: without a study."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import coldray
from coldray.bundle.io import check_free_for_bundle, save_bundle
from coldray.cli.lines import from_here, timed, typed
from coldray.cli.options.models import EvaluateOptions, FitJobOptions, SplitOptions
from coldray.data.dataset import Dataset
from coldray.data.sources.registry import load_filtered
from coldray.experiments.settings import replace_settings
from coldray.front.configs import validated
from coldray.training.options import FitConfig


def fit(options: FitJobOptions, console: Console) -> None:
    """Fit a model, and write its bundle.

    Raises
    ------
    ConfigError
        If there is no such model or parameter, or the folder holds something else.
    DataError
        If the data cannot be read, or lack what the model reads.
    """
    folder = options.output.absolute()
    check_free_for_bundle(folder)
    parameters: dict[str, Any] = {}
    replace_settings(parameters, options.settings)
    features = parameters.pop("features", None)
    how = validated(FitConfig, parameters.pop("fit", {})).options()
    dataset = _dataset(options, console)
    data = coldray.split(dataset, options.split, seed=options.seed) if options.split else dataset
    console.print(timed(f"fitting {options.model}"), highlight=False)
    bundle = coldray.fit(options.model, data, features=features, options=how, **parameters)
    save_bundle(bundle, folder)
    console.print(timed(repr(bundle)), highlight=False)
    console.print(f"Bundle: {from_here(folder)}", soft_wrap=True, highlight=False, markup=False)
    command = typed("coldray", "serve", "--bundle", from_here(folder))
    console.print(f"Next:\n  {command}", soft_wrap=True, highlight=False, markup=False)


def evaluate(options: EvaluateOptions, console: Console) -> None:
    """Measure a bundle on the validation part of a split, or on its test part if that is asked for.

    Raises
    ------
    BundleError
        If the folder is no bundle.
    LeakageError
        If the model was fitted on other interactions than the train part of the split.
    """
    bundle = coldray.load_bundle(options.bundle)
    split = coldray.split(_dataset(options, console), options.split or "item-cold", seed=options.seed)
    found = coldray.evaluate(bundle, split, options.metrics, part=options.part, candidates=options.candidates)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("metric", "value", "95 % interval"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, value, low, high in found.frame.iter_rows():
        table.add_row(name, f"{value:.4f}", "" if low is None else f"{low:.4f} to {high:.4f}")
    console.print(Text(f"{bundle!r}"))
    console.print(Text(f"{split!r}"))
    console.print(Text(f"On the {found.part} part, {found.users:,} users", "bold"))
    console.print(table)


def _dataset(options: SplitOptions, console: Console) -> Dataset:
    """Return the dataset that the options name; what is to be known of how it was read is said."""
    dataset = load_filtered(options.source)
    for note in dataset.notes:
        console.print(timed(f"note: {note}"), highlight=False, soft_wrap=True)
    return dataset
