"""Notebooks as a person runs them: from the first cell to the last, in a kernel of the Python that is asked for."""

import json
from pathlib import Path
from unittest import mock

import nbformat
from nbclient import NotebookClient


def assert_notebook_runs(path, folder, python):
    """Run a notebook in a folder: it ends without an error, and with outputs of the kinds that are stored in it."""
    kernel = Path(folder) / ".jupyter" / "kernels" / "tested"
    kernel.mkdir(parents=True)
    command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "tested", "language": "python"}))
    stored = nbformat.read(path, as_version=4)
    notebook = nbformat.from_dict({**stored, "cells": [{**cell} for cell in stored.cells]})
    place = {"metadata": {"path": str(folder)}}
    with mock.patch.dict("os.environ", {"JUPYTER_PATH": str(kernel.parents[1])}):
        NotebookClient(notebook, kernel_name="tested", timeout=500, resources=place).execute()
    assert kinds_of(notebook) == kinds_of(stored)


def kinds_of(notebook):
    """Return the kinds of each cell's outputs, but for what it prints."""
    return [
        [sorted(output.get("data", ())) for output in cell.get("outputs", ()) if output.output_type != "stream"]
        for cell in notebook.cells
    ]
