"""Lists for all users: histories → partitions by user → lists, each partition once, whatever is lost on the way."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import polars as pl
import pyarrow as pa
import ray
from rich.console import Console

from coldray.bundle.lists import Candidates
from coldray.bundle.model import Bundle
from coldray.cli.options.lists import ListsOptions
from coldray.cli.progress.lists import ListsProgress
from coldray.cli.ray.cluster import connected_ray
from coldray.core.errors import ConfigError, DataFormatError, TrackingError, UnknownIdError
from coldray.data.dataset import Ids
from coldray.data.tables.column_types import check_types
from coldray.data.tables.encodings import refuse_encoding
from coldray.data.tables.histories import ITEM, Histories, find_histories, partitions_complete, write_partitions
from coldray.data.tables.ids import without_blanks
from coldray.data.tables.lines import opened
from coldray.data.tables.streaming import readable
from coldray.reports.labels import counted
from coldray.serving.batch.job import make_lists, require_workers
from coldray.serving.batch.lists import BatchLists
from coldray.serving.batch.output import BatchRun, ListsFolder, locked
from coldray.serving.live.model import ModelVersion
from coldray.serving.live.registry import FolderSource, ModelSource, RegistrySource, latest_champion
from coldray.tracking.access import check_reachable

_REGISTERED = "models:/"
_FORMS = "Write models:/NAME@ALIAS, models:/NAME/VERSION or the folder of a bundle."


def recommend_all(options: ListsOptions, console: Console) -> None:
    """Run the job.

    What can be refused is refused before anything long begins. Partitions that an earlier run has finished are kept.

    Raises
    ------
    DataError
        If the histories cannot be read, or their ids are not of the model's kind.
    TrackingError, BundleError
        If the model cannot be found or loaded.
    OutputError
        If the lists cannot be written, or their folder holds those of another run.
    CatalogTooLargeError
        If the workers do not fit in memory.
    """
    progress = ListsProgress(console)
    output = options.output.absolute()
    histories = find_histories(
        options.histories.absolute(),
        user=options.user_column,
        item=options.item_column,
        rating=options.rating_column,
        timestamp=options.timestamp_column,
    )
    if output.is_relative_to(options.histories.absolute()):
        raise ConfigError(f"--output {output} is inside of the histories; the lists would be read as some of them.")
    with locked(output):
        lists, histories, run, model_bytes = _prepare(options, histories, progress)
        form = lists.form
        folder = ListsFolder(output, run)
        missing = progress.lists_started(run.partitions, folder.begin())
        if missing:
            with connected_ray(options.ray_address, options.cpus, progress):
                here = options.ray_address == "local"
                workers = _workers(len(missing), model_bytes, lists.index_bytes, here=here)
                _spread(histories, folder, progress)
                shared = ray.put(lists)
                del lists  # or this process would keep a second copy
                with progress.making(workers):
                    for counts in make_lists(shared, folder, missing, workers):
                        progress.partition_done(counts)
        folder.end(progress.counts, form)
    progress.lists_ended(output)


def _model_source(model: str | None, tracking_uri: str) -> tuple[ModelSource, ModelVersion]:
    """Return where a model comes from, and which version it is.

    Parameters
    ----------
    model
        ``models:/NAME@ALIAS``, ``models:/NAME/VERSION`` or a folder; None for the champion that was promoted last.

    Raises
    ------
    ConfigError
        If it is none of these.
    TrackingError
        If the registry cannot be reached or has no such model.
    """
    if model is not None and not model.startswith(_REGISTERED):
        if not Path(model).is_dir():
            raise ConfigError(f"--model {model}: there is no such folder. {_FORMS}")
        folder = FolderSource(Path(model))
        return folder, folder.current()
    check_reachable(tracking_uri)
    named = f"{latest_champion(tracking_uri)}@champion" if model is None else model.removeprefix(_REGISTERED)
    sign = "@" if "@" in named else "/"
    name, _, which = named.rpartition(sign)
    if not (name and which):
        raise ConfigError(f"--model {model}: it names no alias and no version. {_FORMS}")
    registry = RegistrySource(tracking_uri, name, which)
    try:
        return registry, registry.current() if sign == "@" else registry.named(which)
    except (TrackingError, UnknownIdError) as error:
        raise TrackingError(f"--model {model}: the registry {tracking_uri} has no such model. {_FORMS}") from error


def _prepare(
    options: ListsOptions, histories: Histories, progress: ListsProgress
) -> tuple[BatchLists, Histories, BatchRun, int]:
    """Return what makes the lists, the histories as it reads them, the run, and the bytes of the model's arrays."""
    source, version = _model_source(options.model, options.tracking_uri)
    name = f"{version.name} {version.version}"
    progress.stage(f"loading the model {name}")
    bundle = source.load(version)
    candidates, label = _candidates(options.candidates, options.item_column, bundle)
    lists = BatchLists.of(bundle, k=options.k, exclude_seen=options.exclude_seen, candidates=candidates)
    histories = _as_known(histories, bundle.item_ids)
    lists.check_ids(histories.schema)
    size = sum(path.stat().st_size for path in histories.files) / 1e9
    progress.stage(f"histories: {histories.rows:,} rows in {counted(len(histories.files), 'file')}, {size:,.2f} GB")
    run = BatchRun(
        model=name,
        fingerprint=hashlib.sha256(json.dumps(bundle.manifest, sort_keys=True, default=str).encode()).hexdigest(),
        k=options.k,
        exclude_seen=options.exclude_seen,
        candidates=label,
        histories=histories.fingerprint(),
        columns=histories.labels,
        partitions=options.partitions or histories.default_partitions,
    )
    progress.stage(lists.form)
    return lists, histories, run, sum(array.nbytes for array in bundle.model.state().values())


def _as_known(histories: Histories, item_ids: Ids) -> Histories:
    """Return the histories with numbers read as text if the model's ids are text and there are numbers among them."""
    numbers = histories.schema.field(ITEM).type == pa.int64()
    if numbers and item_ids.dtype.kind == "U" and pl.Series(item_ids.tolist()).str.contains(r"^-?[0-9]+$").any():
        return histories.with_text_items()
    return histories


def _candidates(given: str, column: str, bundle: Bundle) -> tuple[Candidates, str]:
    """Return which items may be listed, and their name in the manifest: a checksum of those in a file."""
    kinds: dict[str, Candidates] = {"all": "all", "warm": "warm", "cold": "cold"}
    if given in kinds:
        return kinds[given], given
    path = Path(given)
    with readable(path):
        if path.suffix == ".parquet":
            table = pl.read_parquet(path, columns=[column], glob=False, hive_partitioning=False)
            check_types(table.schema, {column: "id"}, path.name)
            ids = table[column].drop_nulls()
            ids = ids if ids.dtype.is_integer() else without_blanks(ids.cast(pl.String))
        else:
            ids = without_blanks(pl.Series(_text(path).splitlines(), dtype=pl.String))
            ids = ids.filter(ids != "")
    if bundle.item_ids.dtype.kind in "iu" and not ids.dtype.is_integer():
        numbers = ids.cast(pl.Int64, strict=False)
        other = numbers.cast(pl.String).fill_null("") != ids  # 007 is none of the model's numbers
        if other.any():
            raise DataFormatError(f"{path}: {ids.filter(other)[0]!r} is no number; the model's items are.")
        ids = numbers
    elif bundle.item_ids.dtype.kind == "U":
        ids = ids.cast(pl.String)
    chosen = tuple(ids.unique().sort().to_list())
    checksum = hashlib.sha256(json.dumps(chosen).encode()).hexdigest()[:16]
    return chosen, f"{len(chosen):,} items of checksum {checksum}"


def _text(path: Path) -> str:
    with opened(path) as stream:
        content = stream.read()
    refuse_encoding(content, 0, path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        refuse_encoding(content, 0, path, error)
        raise


def _workers(most: int, model_bytes: int, index_bytes: int, *, here: bool) -> int:
    """Return how many workers make lists: one for each CPU, if this machine, where it is theirs, has the memory."""
    workers = min(int(ray.cluster_resources()["CPU"]), most)  # type: ignore[no-untyped-call]
    if here:
        require_workers(workers, model_bytes, index_bytes)
    return workers


def _spread(histories: Histories, folder: ListsFolder, progress: ListsProgress) -> None:
    """Write the histories by partition, unless an earlier run has."""
    partitions = folder.run.partitions
    if partitions_complete(folder.partitioned, partitions, histories.rows):
        return
    progress.stage(f"spreading the histories over {counted(partitions, 'partition')}")
    write_partitions(histories, folder.partitioned, partitions, progress.rows_done(histories.rows))
