"""Keys of those who may ask the service."""

from __future__ import annotations

from rich.console import Console

from coldray.cli.options.service import ServeOptions
from coldray.serving.admission.access import new_key


def print_new_key(options: ServeOptions, console: Console) -> None:
    """Make a key and print it, this once, and the line of a file of keys that admits it."""
    name = str(options.new_key)
    key, entry = new_key(name)
    console.print(f"Key of {name}, to be sent as `Authorization: Bearer KEY`; it is shown this once:", highlight=False)
    console.print(key, highlight=False, markup=False, soft_wrap=True)
    console.print("Its line for the file of --keys (a number behind it limits requests a second):", highlight=False)
    console.print(entry.line, highlight=False, markup=False, soft_wrap=True)
