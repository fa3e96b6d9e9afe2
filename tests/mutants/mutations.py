"""Small faults that can be put into a module: one operator, constant, condition or statement is another than before.

Left out is what no test should notice: messages of errors, annotations, decorators, defaults and named constants, which
are choices rather than computations, and flags that save work and change no result.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
WORK_FLAGS = {"strict", "copy", "overwrite_a", "overwrite_b", "overwrite_c", "check_finite", "check_invariants"}
"""Keywords that are left as they are."""


@dataclass(frozen=True)
class Site:
    """A place where a module can be made faulty."""

    lines: range
    """Lines of the smallest statement or condition around it: a test that runs one of them reaches the fault."""
    text: Callable[[], str]
    """Returns how that statement or condition reads."""
    apply: Callable[[], None]
    """Changes the tree that the place was found in."""


def sites(tree: ast.Module) -> list[Site]:
    """Return the places in the functions of a module, in the order of its text."""
    return [site for statement in _statements(tree.body, inside=False) for site in _sites_of(statement)]


def _statements(body: list[ast.stmt], *, inside: bool) -> Iterator[ast.stmt]:
    """Yield the statements of functions, those that hold others before these."""
    for statement in body:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            yield from _statements(statement.body, inside=isinstance(statement, ast.FunctionDef))
        elif inside:
            yield statement
            for name in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(statement, name, []), inside=True)
            for handler in getattr(statement, "handlers", []):
                yield from _statements(handler.body, inside=True)


def _sites_of(statement: ast.stmt) -> Iterator[Site]:
    if isinstance(statement, (ast.Raise, ast.Assert, ast.Import, ast.ImportFrom, ast.Try)):
        return
    changes: list[Callable[[], None]] = []
    if isinstance(statement, (ast.If, ast.While)):
        names = ["test"]
        if not isinstance(statement.test, (ast.Compare, ast.BoolOp, ast.UnaryOp)):
            changes.append(lambda: setattr(statement, "test", ast.UnaryOp(ast.Not(), statement.test)))
    elif isinstance(statement, ast.For):
        names = ["iter"]
    elif isinstance(statement, ast.With):
        names = ["items"]
    else:
        names = ["value"]  # of an assignment, a return or a call; nothing else has one
        if isinstance(statement, ast.AugAssign) and type(statement.op) in OPERATORS:
            changes.append(_with_operator(statement, "op", OPERATORS[type(statement.op)]))
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            changes.append(lambda: setattr(statement, "value", ast.Constant(None)))
    if isinstance(statement, ast.Assign):
        names.append("targets")

    def parts() -> list[ast.AST]:
        fields = [getattr(statement, name, None) or [] for name in names]
        return [part for field in fields for part in (field if isinstance(field, list) else [field])]

    def text() -> str:
        shown = parts() if isinstance(statement, (ast.If, ast.While, ast.For, ast.With)) else [statement]
        return ", ".join(ast.unparse(ast.fix_missing_locations(part)) for part in shown)

    for part in parts():
        changes += _changes(part)
    last = statement.end_lineno or statement.lineno
    if hasattr(statement, "body"):
        last = max([statement.lineno, *(getattr(part, "end_lineno", 0) for part in parts())])
    lines = range(statement.lineno, last + 1)
    yield from (Site(lines, text, change) for change in changes)


def _changes(node: ast.AST) -> Iterator[Callable[[], None]]:
    """Yield what can be changed in an expression."""
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.keyword) and node.arg in WORK_FLAGS):
        return
    if isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in OPERATORS:
        yield _with_operator(node, "op", OPERATORS[type(node.op)])
    elif isinstance(node, ast.Compare):
        yield lambda: node.ops.__setitem__(0, OPERATORS[type(node.ops[0])]())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield _with_operator(node, "op", ast.UAdd)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield lambda: setattr(node, "operand", ast.UnaryOp(ast.Not(), node.operand))
    elif isinstance(node, ast.IfExp):
        yield lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        value = node.value
        other = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else 2 * value or 1.0
        yield lambda: setattr(node, "value", other)
    for child in ast.iter_child_nodes(node):
        yield from _changes(child)


def _with_operator(node: ast.AST, field: str, operator: type[ast.AST]) -> Callable[[], None]:
    return lambda: setattr(node, field, operator())
