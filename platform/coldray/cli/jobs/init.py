"""A study file for data of one's own: columns guessed, with the reason for each, and a study of a model that fits."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from coldray.cli.lines import from_here, other_command, typed
from coldray.cli.options.init import InitOptions
from coldray.core.errors import OutputError
from coldray.core.study_files import named_file
from coldray.data.guess.guess import Guess
from coldray.data.guess.tables import GuessedTables, guess_tables

_UNSURE = "(?) "
"""What a guess begins with that ought to be looked at."""


def write_study(options: InitOptions, console: Console) -> None:
    """Look at the files, and print a study file or write it.

    Raises
    ------
    DataError
        If a file cannot be read, or is not what it is taken for.
    OutputError
        If the file cannot be written.
    """
    tables = guess_tables(options.interactions, options.items, time.time(), users=options.users)
    study = named_file(options.study or _study_for(tables), "study")
    folder = Path.cwd() if options.output is None else options.output.absolute().parent
    text = study_text(tables, study.read_text(encoding="utf-8"), folder, " ".join(options.command))
    if options.output is None:
        sys.stdout.write(text)
        return
    try:
        options.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{options.output} cannot be written: {error.strerror}. Name a file elsewhere.") from error
    command = typed(*other_command("tune"), from_here(options.output.absolute()), "--dry-run")
    console.print(f"Next:\n  {command}", soft_wrap=True, highlight=False, markup=False)


def _study_for(tables: GuessedTables) -> str:
    """Return the study that makes most of what is known: of items before users, else of clicks alone."""
    if any(guess.use for guess in tables.of_items):
        return "marec"
    return "kernel_align_users" if any(guess.use for guess in tables.of_users) else "ease"


def study_text(tables: GuessedTables, study: str, folder: Path, command: str) -> str:
    """Return a commented study file of the tables.

    Parameters
    ----------
    study
        Text of the study file that is taken as it is, but for its name.
    folder
        Where the file will lie: its paths begin there.
    command
        What was typed, for the first line.
    """
    named = re.sub(r"(?m)^name:.*$", f"name: {_name_of(tables)}", study, count=1)
    first, end, rest = named.partition("\nspace:")
    doubts = sum(not guess.sure for guess in _guesses(tables)) + bool(tables.repeated) + (tables.event is not None)
    marked = f"; look at what is marked {_UNSURE.strip()}: {doubts} of them" if doubts else ""
    guessed = f"# What columns mean is guessed, and the reason stands behind it{marked}.\n"
    head = f"# Written by `{_in_a_line(command)}`.\n{guessed}#\n{first.rstrip()}\n\n"
    return f"{head}{data_section(tables, folder)}{end}{rest}"


def data_section(tables: GuessedTables, folder: Path) -> str:
    """Return the section ``data`` of a study file, with a comment for every column, those that are left out too."""
    lines = [("data:", ""), (f"  name: {_source_of(tables.interactions)}", ""), ("  tabular:", "")]
    rows, n_items = tables.rows
    again = f"; {_UNSURE}{tables.repeated:,} repeat a user and an item, and are refused: keep one row each"
    read = f"{rows:,} rows{again if tables.repeated else ''}"
    lines.append((f"    interactions: {_path(tables.interactions, folder)}", read))
    if tables.items is not None:
        lines.append((f"    items: {_path(tables.items, folder)}", f"{n_items:,} rows"))
    if tables.users is not None:
        lines.append((f"    users: {_path(tables.users, folder)}", f"{tables.n_users:,} rows"))
    fields = tables.columns
    guesses = {guess.column: guess for guess in tables.of_interactions}
    known = ("user_column", "item_column", "rating_column", "event_column", "timestamp_column")
    named = [one for one in known if one in fields]
    lines += [(f"    {field}: {_scalar(fields[field])}", _comment(guesses[fields[field]])) for field in named]
    if "event_weights" in fields:
        doubt = f"{_UNSURE}in their order alone: say what a kind is worth; of several of a pair the highest counts"
        lines.append(("    event_weights:", doubt))
        lines += [(f"      {_scalar(kind)}: {weight:g}", "") for kind, weight in fields["event_weights"].items()]
    if "context_label_columns" in fields:
        lines.append(("    context_label_columns:", "what was known before a click, as far as their names tell"))
        lines += [(f"      - {_scalar(name)}", _comment(guesses[name])) for name in fields["context_label_columns"]]
    if "item_id_column" in fields and tables.key is not None:
        lines.append((f"    item_id_column: {_scalar(fields['item_id_column'])}", _comment(tables.key)))
    for of, owner in ((tables.of_items, ""), (tables.of_users, "user_")):
        described = {guess.column: guess for guess in of}
        for field in (f"{owner}{kind}_columns" for kind in ("label", "number", "text")):
            if field in fields:
                lines.append((f"    {field}:", ""))
                lines += [(f"      - {_scalar(name)}", _comment(described[name])) for name in fields[field]]
    if "label_separator" in fields:
        lines.append((f"    label_separator: {_scalar(fields['label_separator'])}", ""))
    text = "".join(_line(*one) for one in lines)
    for path, left in (
        (tables.interactions, tables.of_interactions),
        (tables.items, tables.of_items),
        (tables.users, tables.of_users),
    ):
        out = [guess for guess in left if guess.use is None]
        if path is not None and out:
            text += f"  # Left out of {path.name}:\n"
            text += "".join(f"  #   {_in_a_line(guess.column)}: {_comment(guess)}\n" for guess in out)
    middles = [guess.middle for guess in tables.of_interactions if guess.middle is not None]
    if middles:
        low = f"filters: {{min_rating_exclusive: {middles[0]:g}}}"
        text += f"\n# {low}   # every row counts as a click, however low; this leaves out those rated low\n"
    return text


def _guesses(tables: GuessedTables) -> Iterable[Guess]:
    return (*tables.of_interactions, *tables.of_items, *tables.of_users, *([] if tables.key is None else [tables.key]))


def _name_of(tables: GuessedTables) -> str:
    stem = re.sub(r"\.(csv|tsv|parquet)$", "", re.sub(r"\.(gz|zst)$", "", tables.interactions.name))
    return re.sub(r"^[^\w]+", "", re.sub(r"[^\w.-]+", "-", stem)) or "own"


def _source_of(path: Path) -> str:
    return "csv" if re.search(r"\.[ct]sv(\.\w+)?$", path.name) else "parquet"


def _path(path: Path, folder: Path) -> str:
    return _scalar(
        os.path.relpath(path, folder) if path.absolute().is_relative_to(folder.absolute()) else str(path.absolute())
    )


def _scalar(value: Any) -> str:
    """Return a value as YAML writes it in one line."""
    readable = str(value).isprintable()  # PyYAML writes some line breaks of Unicode as they are, and reads others
    return yaml.safe_dump(value, width=10**6, allow_unicode=readable).removesuffix("\n").removesuffix("\n...")


def _comment(guess: Guess) -> str:
    return ("" if guess.sure else _UNSURE) + _in_a_line(guess.reason)


def _in_a_line(text: str) -> str:
    """Return a text of a file as it may stand in a comment."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def _line(text: str, comment: str) -> str:
    return f"{text}\n" if not comment else f"{text:<38}  # {comment}\n"
