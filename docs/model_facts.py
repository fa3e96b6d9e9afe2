"""What the code and the last measurement know of each model: a Sphinx extension that writes ``models/generated``."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from coldray.core.memory import GIB
from coldray.core.study_files import named_file
from coldray.experiments.space import StudyConfig, is_range, load_study
from coldray.models.registry import MODELS, model_type
from coldray.training.options import TRAINING_OPTIONS

FOLDER = Path(__file__).parent / "models"
SHARED = {"item_knn": "knn", "user_knn": "knn"}
"""Models whose study file has another name than theirs."""
USERS = 100_000
CATALOGUES = (3_000, 10_000, 30_000, 100_000)
"""Users and items for which memory is reckoned."""


def study_of(name: str) -> tuple[Path, StudyConfig]:
    """Return the study file of a model, and the study in it for this model."""
    path = named_file(SHARED.get(name, name), "study")
    return path, load_study(path, {"model": name})


def measured() -> dict[str, dict[str, str]]:
    """Return what ``tests/benchmarks/model_costs.py`` wrote, a row a model."""
    with (FOLDER / "costs.csv").open(encoding="utf-8", newline="") as file:
        return {row["model"]: row for row in csv.DictReader(file)}


def facts(name: str, cost: dict[str, str]) -> str:
    """Return the table at the top of the page of a model."""
    kind = model_type(name)
    path, study = study_of(name)
    reads = kind(kind.config_type()).reads
    read = ["ratings" if reads.ratings else "clicks", *(["their order"] if reads.order else [])]
    read += ["attributes of items"] if kind.scores_cold_items else []
    read += ["attributes of users"] if kind.reads_users else []
    new = "scored by their attributes" if kind.scores_cold_items else "not listed: nothing is known of them"
    trials = f"{study.n_trials} configurations" if study.enumerated else f"{study.n_trials} trials"
    heeded = ", ".join(f"`{option}`" for option in kind.fit_options) or "nothing"
    rows = {
        "class": f"`{kind.__module__}.{kind.__name__}`, configured by `{kind.config_type.__name__}`",
        "reads": ", ".join(read),
        "items that nobody has clicked": new,
        "study file": f"`{path.name}`: {trials}, protocol `{study.splits.protocol}`, candidates `{study.candidates}`, "
        f"chosen by {study.selection.metric}",
        "of [`fit`](../reference/study_file.md#fit) it heeds": "all"
        if kind.fit_options == TRAINING_OPTIONS
        else heeded,
        "one fit on `ml-100k`": f"{cost['CPU seconds of a fit']} s of one core, {cost['MiB at its peak']} MiB at its "
        f"peak ({cost['MiB reckoned']} reckoned beforehand); a list in {cost['CPU ms a list']} ms",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]) + "\n"


def space(name: str) -> str:
    """Return the table of what the study of a model searches, and what it fixes beside the defaults."""
    ways = {"uniform": "from {} to {}", "log_uniform": "from {} to {}, evenly in logarithms", "int_uniform": "{} to {}"}
    rows = []
    for parameter, spec in study_of(name)[1].space.items():
        if not is_range(spec):
            rows.append(f"| `{parameter}` | {_value(spec)} alone |")
            continue
        ((way, values),) = spec.items()
        listed = [_value(value) for value in values]
        rows.append(f"| `{parameter}` | {', '.join(listed) if way == 'choice' else ways[way].format(*listed)} |")
    return "\n".join(["| parameter | searched |", "|---|---|", *rows]) + "\n"


def _value(value: Any) -> str:
    return f"`{value:g}`" if isinstance(value, float) else f"`{json.dumps(value)}`"


def reckoned() -> str:
    """Return the table of what `memory_bytes` says of fits by the defaults, in GiB."""
    head = ["| model |", *(f" {items:,} items |" for items in CATALOGUES)]
    rows = []
    for name in MODELS:
        kind = model_type(name)
        model = kind(kind.config_type())
        needs = (model.memory_bytes(USERS, items) / GIB for items in CATALOGUES)
        rows.append(f"| `{name}` |" + "".join(f" {need:,.1f} |" if need >= 0.05 else " < 0.1 |" for need in needs))
    return "\n".join(["".join(head), "|---|" + "---|" * len(CATALOGUES), *rows]) + "\n"


def write_facts(app: Any = None) -> None:
    """Write two tables for each model and one of all, where they have changed."""
    (FOLDER / "generated").mkdir(exist_ok=True)
    costs = measured()
    pages = {"reckoned": reckoned()}
    for name in MODELS:
        pages |= {f"{name}_facts": facts(name, costs[name]), f"{name}_space": space(name)}
    for name, text in pages.items():
        path = FOLDER / "generated" / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_facts)
    return {"parallel_read_safe": True}
