"""What the faults are that the tests of the package are measured by."""

import ast

import pytest

from mutants import mutations


def faulty(source):
    """Return how the statement or condition around each place reads without and with the fault."""
    found = []
    for number in range(len(mutations.sites(ast.parse(source)))):
        tree = ast.parse(source)
        site = mutations.sites(tree)[number]
        before = site.text()
        site.apply()
        compile(ast.fix_missing_locations(tree), "faulty", "exec")
        found.append((before, site.text()))
    return found


@pytest.mark.parametrize(
    ("statement", "faults"),
    [
        ("return a <= b", ["return a < b"]),
        ("return a is not b", ["return a is b"]),
        ("return a in b", ["return a not in b"]),
        ("return a - b", ["return a + b"]),
        ("return a // b % c", ["return a // b * c", "return a * b % c"]),
        ("return a and b", ["return a or b"]),
        ("return not a", ["return not not a"]),
        ("return -a", ["return +a"]),
        ("return a if b else c", ["return a if not b else c"]),
        ("return (True, 7, 0.5, 0.0)", ["return (False, 7, 0.5, 0.0)", "return (True, 8, 0.5, 0.0)"]),
        ("a += b", ["a -= b"]),
        ("a[1:] = b", ["a[2:] = b"]),
        ("f(a)", ["None"]),
        ("for a in range(2): pass", ["range(3)"]),
        ("with f(1): pass", ["f(2)"]),
        ("if a: pass", ["not a"]),
        ("while a > 1: pass", ["a >= 1", "a > 2"]),
    ],
)
def test_each_place_has_a_fault(statement, faults):
    found = [after for _, after in faulty(f"def g(a, b, c, f):\n    {statement}\n")]
    assert found[: len(faults)] == faults


def test_what_no_test_should_notice_is_left_alone():
    source = '''
LIMIT = 3
@cached(maxsize=1)
def g(a: int | None = 2, *, b=True) -> int | None:
    """Add 1."""
    c: int | None = a
    if c:
        raise ValueError(f"{c + 1} is wrong: " + str(2))
    return zip(a, b, strict=True)
class Config(Model):
    number: int = 3
    def h(self):
        return f"{self.number + 1}"
'''
    assert faulty(source) == [("c", "not c")]


def test_a_fault_is_reached_by_the_lines_of_its_statement_or_condition():
    source = "def g(a):\n    if a > 1 and (\n        a < 3\n    ):\n        return (\n            a + 1\n        )\n"
    assert [site.lines for site in mutations.sites(ast.parse(source))] == [range(2, 5)] * 5 + [range(5, 8)] * 2
