"""The models there are, and their parameters."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coldray.cli.options.catalogue import ModelsOptions
from coldray.core.memory import fit_bytes
from coldray.models.base import Recommender
from coldray.models.forms import StudyOutlook
from coldray.models.registry import MODELS, model_type

_SMALL = (1000, 1000)
"""Users and items of a catalogue that shows which parameter names the form of a fit."""
_BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤", "minLength": "length ≥"}


def show_models(options: ModelsOptions, console: Console) -> None:
    """Print a table of all models, or the parameters of one.

    Raises
    ------
    ConfigError
        If there is no model of the name.
    """
    if options.model is not None:
        _show_parameters(model_type(options.model), console)
        return
    found, faults = MODELS.usable
    table = _table("model", "reads", "cold items", "forms", "")
    for name, kind in found.items():
        table.add_row(name, _reads(kind), "yes" if kind.scores_cold_items else "", _form(kind), _first_line(kind))
    console.print(table)
    for fault in faults:
        console.print(Text(fault, "red"))
    console.print("coldray models NAME shows the parameters of one.", highlight=False)


def _show_parameters(kind: type[Recommender[Any]], console: Console) -> None:
    config = kind.config_type
    schema, documented = config.model_json_schema(), _documented(config)
    console.print(Text(_plain(inspect.cleandoc(kind.__doc__ or kind.name))))
    console.print()
    cold = "scores cold items by their attributes" if kind.scores_cold_items else "knows items by their clicks alone"
    console.print(f"{kind.name} reads {_reads(kind)} and {cold}.", highlight=False, markup=False)
    table = _table("parameter", "default", "values", "meaning")
    for name, field in schema["properties"].items():
        default = config.model_fields[name].get_default(call_default_factory=True, validated_data={})
        table.add_row(name, _shown(default), Text(_values(field, schema)), Text(documented.get(name, "")))
    console.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        named = column in ("model", "parameter")
        least = {"model": max(map(len, MODELS)), "reads": len("clicks, their order")}.get(column)
        table.add_column(column, overflow="fold", no_wrap=named, min_width=least)
    return table


def _first_line(kind: type[Recommender[Any]]) -> Text:
    return Text(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " "))


def _reads(kind: type[Recommender[Any]]) -> str:
    """Return what a model reads in words, by its default configuration."""
    reads = kind(kind.config_type()).reads
    told = {"clicks": True, "their order": reads.order, "ratings": reads.ratings, "attributes": kind.scores_cold_items}
    told |= {"user attributes": kind.reads_askers(), "moments": kind.reads_moments}
    return ", ".join(name for name, read in told.items() if read)


def _form(kind: type[Recommender[Any]]) -> str:
    """Return the parameters that name the form of a fit: exact, or an approximation for large catalogues."""
    _, forms = kind.settle(kind.config_type(), StudyOutlook(*_SMALL, fit_bytes()))
    return ", ".join(form.parameter for form in forms)


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _values(field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return in words which values a field of a JSON schema takes."""
    if "$ref" in field:
        return _values(schema["$defs"][field["$ref"].rpartition("/")[2]], schema)
    if "anyOf" in field:
        return " or ".join(_values(one, schema) for one in field["anyOf"])
    if "enum" in field or "const" in field:
        return ", ".join(map(str, field.get("enum", [field.get("const")])))
    kind = str(field.get("type", "any"))
    if kind == "array":
        return f"list of {_values(field.get('items', {}), schema)}"
    if kind == "object" and isinstance(inner := field.get("additionalProperties"), Mapping):
        return f"{_values(inner, schema)} for each name"
    bounds = [f"{sign} {field[name]:g}" for name, sign in _BOUNDS.items() if name in field]
    return " ".join([kind, " and ".join(bounds)]).strip()


def _plain(text: str) -> str:
    """Return a docstring without the marks of its language."""
    return re.sub(r"(?::\w+:)?`+~?(?:[\w.]+\.)?([^`]+)`+", r"\1", text)


def _documented(config: type[BaseModel]) -> dict[str, str]:
    """Return the docstring under each field of a configuration and of those that it is made from."""
    found: dict[str, str] = {}
    for kind in reversed(config.__mro__):
        if issubclass(kind, BaseModel) and kind is not BaseModel:
            found |= dict(_docstrings(kind))
    return found


def _docstrings(kind: type) -> Iterator[tuple[str, str]]:
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    statements = body.body if isinstance(body, ast.ClassDef) else []
    for statement, following in itertools.pairwise(statements):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            value = following.value if isinstance(following, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield statement.target.id, _plain(" ".join(value.value.split()))
