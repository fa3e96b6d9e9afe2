"""The pages that are made from the code: a Sphinx extension that writes ``reference/generated`` before each build."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import indent
from typing import Any, Literal, get_args, get_origin

FOLDER = Path(__file__).parent / "reference" / "generated"


def http_api() -> str:
    """Return the paths of the service as its OpenAPI file has them."""
    from coldray.serving.api.app import _api

    schema = _api.openapi()
    operations = {
        f"{method.upper()} {path}": operation
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    }
    shared = set.intersection(*(set(operation["responses"]) for operation in operations.values()))
    parts = []
    for title, operation in operations.items():
        parts += _operation(title, operation, shared)
    parts += ["## Errors\n", "Any of these may be the answer to any request.\n"]
    parts += _answers({status: next(iter(operations.values()))["responses"][status] for status in sorted(shared)})
    parts.append("## Objects\n")
    for name, kind in schema["components"]["schemas"].items():
        if kind.get("properties"):
            parts += [f"### {name}\n", kind.get("description", ""), "\n", *_fields(kind)]
    return "\n".join(parts)


def _operation(title: str, operation: dict[str, Any], shared: set[str]) -> Iterator[str]:
    yield f"## `{title}`\n"
    yield operation.get("description", operation.get("summary", "")) + "\n"
    rows = [
        f"| `{one['name']}` | {one['in']} | {_type(one['schema'])} | {_cell(one.get('description', ''))} |"
        for one in operation.get("parameters", ())
    ]
    if rows:
        yield "\n".join(["| parameter | where | type | meaning |", "|---|---|---|---|", *rows]) + "\n"
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body:
        yield f"Body: {_type(body['schema'])}\n"
    yield from _answers({status: one for status, one in operation["responses"].items() if status not in shared})


def _answers(answers: dict[str, Any]) -> Iterator[str]:
    rows = [f"| {status} | {_cell(one['description'])} | {_content(one)} |" for status, one in answers.items()]
    yield "\n".join(["| status | meaning | body |", "|---|---|---|", *rows]) + "\n"


def _content(answer: dict[str, Any]) -> str:
    return ", ".join(_type(one["schema"]) for one in answer.get("content", {}).values() if "schema" in one)


def _fields(kind: dict[str, Any]) -> Iterator[str]:
    required = set(kind.get("required", ()))
    yield "| field | type | default | meaning |\n|---|---|---|---|"
    for name, field in kind["properties"].items():
        default = "required" if name in required else f"`{json.dumps(field.get('default'), ensure_ascii=False)}`"
        yield f"| `{name}` | {_type(field)} | {default} | {_cell(field.get('description', ''))} |"
    yield ""


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(_type(one) for one in schema[word]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[limit]:,}" for limit, sign in limits.items() if limit in schema]
    return ", ".join([schema.get("type", "any"), *bounds])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def python_api() -> str:
    """Return what ``import coldray`` offers, functions first."""
    import coldray

    names = [name for name in coldray.__all__ if not name.startswith("_")]
    functions = [name for name in names if inspect.isfunction(getattr(coldray, name))]
    parts = ["## Functions\n", "```{eval-rst}", *(f".. autofunction:: coldray.{name}" for name in functions), "```\n"]
    parts += ["## Classes\n", "```{eval-rst}"]
    for name in names:
        if name not in functions:
            parts += [f".. autoclass:: coldray.{name}", "   :members:", ""]
    return "\n".join([*parts, "```\n"])


def errors() -> str:
    """Return every error, the general ones first, with what it is and what to do."""
    from coldray.core import errors as module

    parts = ["```{eval-rst}"]
    for name, kind in vars(module).items():
        if inspect.isclass(kind):
            base = kind.__base__.__name__
            parts += [f".. py:exception:: coldray.core.errors.{name}", ""]
            parts += ["" if base == "Exception" else f"   A :class:`~coldray.core.errors.{base}`.", ""]
            parts += [indent(inspect.getdoc(kind) or "", "   "), ""]
    return "\n".join([*parts, "```\n"])


def command_line() -> str:
    """Return the commands with their options, as their help has them."""
    from typer.main import get_command

    from coldray.command.app import application

    app: Any = get_command(application())
    parts = []
    for name, command in app.commands.items():
        parts += [f"## `coldray {name}`\n", f"{command.help}\n"]
        panels = list(dict.fromkeys(getattr(one, "rich_help_panel", None) for one in command.params))
        for panel in sorted(panels, key=lambda panel: panel is not None):
            parts += [f"**{panel}**\n"] if panel else []
            parts += ["| | takes | default | |", "|---|---|---|---|"]
            shown = [one for one in command.params if getattr(one, "rich_help_panel", None) == panel]
            parts += map(_option, sorted(shown, key=lambda one: one.param_type_name))  # arguments before options
            parts.append("")
    return "\n".join(parts)


def _option(parameter: Any) -> str:
    argument = parameter.param_type_name == "argument"
    flag = getattr(parameter, "is_flag", False)
    names = [parameter.metavar or parameter.name.upper()] if argument else [*parameter.opts, *parameter.secondary_opts]
    annotation = parameter.type_descriptor.annotation
    words = " or ".join(map(str, get_args(annotation))) if get_origin(annotation) is Literal else ""
    kinds = {Path: "path", int: "number", float: "number"}
    takes = "" if flag or argument else parameter.metavar or words or kinds.get(annotation, "text")
    set_by = f"`{parameter.envvar}`, else " if parameter.envvar else ""
    default = "" if flag or parameter.default in (None, (), "", False) else f"{set_by}`{parameter.default}`"
    cells = (", ".join(f"`{name}`" for name in names), takes, "required" if parameter.required else default)
    return f"| {' | '.join(map(_cell, map(str, (*cells, parameter.help or ''))))} |"


PAGES: dict[str, Callable[[], str]] = {
    "errors": errors,
    "http_api": http_api,
    "python_api": python_api,
    "command_line": command_line,
}
"""What is made, by the name of its file."""


def write_pages(app: Any = None) -> None:
    """Write each page whose text has changed."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        path, text = FOLDER / f"{name}.md", make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True}
