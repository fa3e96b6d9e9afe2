"""What is public is reached from the package, a job or the service, or promised by pages or ``import coldray``."""

import ast
import importlib
import inspect
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "platform"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): ast.parse(path.read_text())
    for path in sorted((SOURCE / "coldray").rglob("*.py"))
}
DEFINITIONS = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
OUTSIDE = [path for folder in ("jobs", "serve") for path in sorted((ROOT / folder).iterdir())]
PLAIN = {"property", "cached_property", "classmethod", "staticmethod", "abstractmethod", "dataclass", "final"}
"""Decorators that call nothing; any other, such as a route's, a validator's or a registry's, takes what it is given."""


def references(tree):
    """Count the names by which code refers to things; strings count where they are a name, docstrings do not."""
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = Counter()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                found[name] += 1
            case ast.ImportFrom(names=names):
                found.update(alias.name for alias in names)
            case ast.Constant(value=str(text)) if id(node) not in texts and re.fullmatch(r"[\w.]+(:\w+)?", text):
                found.update(re.findall(r"\w+", text))
    return found


@cache
def named_outside():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*/*.md")]
    promised = "\n".join(path.read_text(encoding="utf-8") for path in pages)
    texts = re.findall(r"```.*?```|`[^`\n]+`", promised, re.DOTALL)  # words of prose name nothing
    texts.append((ROOT / "tests" / "front" / "interface.txt").read_text(encoding="utf-8"))
    texts += [path.read_text(encoding="utf-8") for path in OUTSIDE if path.suffix in {".py", ".yaml"}]
    return {word for text in texts for word in re.findall(r"\w+", text)}


@cache
def referred():
    return sum(map(references, MODULES.values()), Counter())


def is_taken_by_a_decorator(node):
    names = {ast.unparse(one).partition("(")[0].rpartition(".")[2] for one in node.decorator_list}
    return bool(names - PLAIN)


def is_hook(module, owner, name):
    """Tell whether a method has the name of one of a base from elsewhere, which calls it."""
    kind = getattr(importlib.import_module(module), owner)
    bases = [base for base in inspect.getmro(kind)[1:] if not base.__module__.startswith("coldray.")]
    return any(name in vars(base) for base in bases)


def unreached(module, tree):
    for node in tree.body:
        if not isinstance(node, DEFINITIONS):
            continue
        methods = [one for one in node.body if isinstance(one, DEFINITIONS)] if isinstance(node, ast.ClassDef) else []
        for one, owner in [(node, None), *((method, node) for method in methods)]:
            if one.name.startswith("_") or is_taken_by_a_decorator(one) or (owner and is_taken_by_a_decorator(owner)):
                continue
            if referred()[one.name] > references(one)[one.name] or one.name in named_outside():
                continue
            if owner is None or not is_hook(module, owner.name, one.name):
                yield f"{module}.{owner.name + '.' if owner else ''}{one.name}"


def test_nothing_public_is_called_by_tests_alone():
    assert [name for module, tree in MODULES.items() for name in unreached(module, tree)] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def idle():\n    return idle()", ["idle"]),
        (
            "class Idle:\n    '''Of idle_method.'''\n    def idle_method(self):\n        pass",
            ["Idle", "Idle.idle_method"],
        ),
        ("@router.get('/')\ndef idle():\n    pass", []),
        ("class _Kept:\n    @property\n    def idle_property(self):\n        pass", ["_Kept.idle_property"]),
        ("def _idle():\n    pass", []),
        ("def load_dataset():\n    pass", []),
    ],
)
def test_the_scan_finds_what_nobody_calls(monkeypatch, text, found):
    monkeypatch.setattr(f"{__name__}.is_hook", lambda *_: False)
    assert list(unreached("m", ast.parse(text))) == [f"m.{name}" for name in found]
