"""Checkpoints of a training: a folder of plain files, read without unpickling anything.

- ``tensors.safetensors``: ``model/…``, the weights at this position; ``best/…``, the best so far; ``optimizer/…``, the
  optimizer's tensors by the number of the parameter;
- ``training.json``: schema, what the checkpoint is of (:class:`Identity`), position, history, best metric, the
  optimizer's and the gradient scaler's numbers. It is written last.

No state of a random generator is stored: every draw derives from the seed and the position.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from coldray.core.errors import CheckpointError
from coldray.core.files import replacing_folder
from coldray.training.config import TrainingConfig
from coldray.training.state import Progress

_SCHEMA = 1
_TENSORS = "tensors.safetensors"
MANIFEST = "training.json"
NAME = "checkpoint-{:06d}-{:08d}"
"""Folder of a checkpoint, by epoch and step. Ray Train names its own ``checkpoint_…``."""
_OWN_NAME = re.compile(r"checkpoint-\d{6,}-\d{8,}")

_FREE_TO_CHANGE = {"patience", "min_delta", "epochs"}
"""Parameters that a resume may change, beside the options of the fit but for its precision: none of them alters a step
that is still to be made."""


@dataclass(frozen=True)
class Identity:
    """What a checkpoint is of; a resume needs the same."""

    task: str
    n_examples: int
    config: Mapping[str, Any]
    """Parameters that decide what a step does."""
    shapes: Mapping[str, list[int]]
    """Of the module's weights and buffers."""


@dataclass(frozen=True)
class Snapshot:
    """A training at one position."""

    identity: Identity
    progress: Progress
    model: Mapping[str, torch.Tensor]
    best: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, Mapping[str, Any]]
    """State of each parameter, by its number."""
    scaler: Mapping[str, Any]


def identify(
    name: str, n_examples: int, config: TrainingConfig, precision: str, model: Mapping[str, torch.Tensor]
) -> Identity:
    """Return what a training is of."""
    free = _FREE_TO_CHANGE - {"epochs"} if config.schedule == "cosine" else _FREE_TO_CHANGE
    unused = set() if config.schedule == "restarts" else {"restart_epochs", "restart_factor"}
    free = free | unused | (set() if config.l1 else {"l1"})  # as in checkpoints of before there were any
    chosen = {key: value for key, value in config.model_dump(mode="json").items() if key not in free}
    chosen["precision"] = precision
    return Identity(name, n_examples, chosen, _shapes_of(model))


def _shapes_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, list[int]]:
    """Return the shape of each tensor."""
    return {name: list(tensor.shape) for name, tensor in tensors.items()}


def write_checkpoint(folder: Path, snapshot: Snapshot) -> None:
    """Write a checkpoint into an existing folder."""
    tensors = {f"model/{name}": tensor for name, tensor in snapshot.model.items()}
    tensors |= {f"best/{name}": tensor for name, tensor in snapshot.best.items()}
    scalars: dict[str, dict[str, Any]] = {}
    for number, state in snapshot.optimizer.items():
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer/{number}/{key}"] = value
            else:
                scalars.setdefault(number, {})[key] = value
    # Tied weights share memory, which the format refuses; copies are loaded back into the one place just as well.
    save_file({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}, folder / _TENSORS)
    manifest = {
        "schema": _SCHEMA,
        "identity": asdict(snapshot.identity),
        "progress": asdict(snapshot.progress),
        "optimizer": scalars,
        "scaler": dict(snapshot.scaler),
        "bytes": (folder / _TENSORS).stat().st_size,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def save_checkpoint(run: Path, snapshot: Snapshot, num_to_keep: int) -> Path:
    """Write a checkpoint into the folder of a run, complete or not at all, and delete the oldest beyond `num_to_keep`.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    path = run / NAME.format(*snapshot.progress.position)
    with replacing_folder(path) as temporary:
        write_checkpoint(temporary, snapshot)
    own = sorted(found for found in run.iterdir() if _OWN_NAME.fullmatch(found.name))
    for old in own[:-num_to_keep]:
        shutil.rmtree(old)
    return path


def latest_checkpoint(run: Path) -> Path | None:
    """Return the checkpoint of a run that got furthest, whoever wrote it; incomplete ones are passed over."""
    complete = [manifest.parent for manifest in run.glob(f"*/{MANIFEST}") if position_of(manifest.parent) >= (0, 0)]
    return max(complete, key=position_of, default=None)


def position_of(path: Path) -> tuple[int, int]:
    """Return the position of a checkpoint; one below every other's if it is incomplete."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        if (path / _TENSORS).stat().st_size != manifest["bytes"]:
            return -1, 0
        return manifest["progress"]["epoch"], manifest["progress"]["step"]
    except (OSError, ValueError, KeyError, TypeError):
        return -1, 0


def read_checkpoint(path: Path) -> Snapshot:
    """Return a checkpoint.

    Raises
    ------
    CheckpointError
        If it is incomplete, damaged or of another schema.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        schema = manifest.get("schema")
        if schema != _SCHEMA:
            raise CheckpointError(
                f"Checkpoint {path} has schema {schema!r}; this version reads schema {_SCHEMA}. Go on with the version "
                "that wrote it, or train under another name."
            )
        tensors = load_file(path / _TENSORS)
        optimizer: dict[str, dict[str, Any]] = {number: dict(state) for number, state in manifest["optimizer"].items()}
        for name, tensor in _part(tensors, "optimizer/").items():
            number, key = name.split("/", 1)
            optimizer.setdefault(number, {})[key] = tensor
        return Snapshot(
            Identity(**manifest["identity"]),
            Progress.from_json(manifest["progress"]),
            _part(tensors, "model/"),
            _part(tensors, "best/"),
            optimizer,
            manifest["scaler"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise CheckpointError(
            f"Checkpoint {path} cannot be read ({type(error).__name__}: {error}). Delete its folder to go on from the "
            "one before it."
        ) from error


def require_same(path: Path, found: Identity, wanted: Identity) -> None:
    """Refuse to go on from a checkpoint of something else.

    Raises
    ------
    CheckpointError
        Saying all that differs.
    """
    differences = []
    if found.task != wanted.task:
        differences.append(f"it is of {found.task!r}, not of {wanted.task!r}")
    if found.n_examples != wanted.n_examples:
        differences.append(f"it was trained on {found.n_examples:,} examples; there are {wanted.n_examples:,}")
    differences += _shape_differences(found.shapes, wanted.shapes)
    for name in sorted({*found.config, *wanted.config}):
        old, new = found.config.get(name, "absent"), wanted.config.get(name, "absent")
        if old != new:
            differences.append(f"{name} was {old!r} and is {new!r}")
    if differences:
        raise CheckpointError(
            f"Checkpoint {path} is of another training: {'; '.join(differences)}. Restore what differs, or train under "
            "another name."
        )


def _shape_differences(found: Mapping[str, list[int]], wanted: Mapping[str, list[int]]) -> list[str]:
    """Return one line for each weight that is missing, unknown or of another shape."""
    lines = []
    for name in sorted({*found, *wanted}):
        if name not in wanted:
            lines.append(f"weight {name!r} {found[name]} is not in the model")
        elif name not in found:
            lines.append(f"weight {name!r} {wanted[name]} of the model is missing")
        elif list(found[name]) != list(wanted[name]):
            lines.append(f"weight {name!r} has shape {list(found[name])}, the model's {list(wanted[name])}")
    return lines


def _part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
