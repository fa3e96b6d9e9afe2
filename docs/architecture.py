"""Draws ``docs/img/architecture.svg``: the stages of the package, and which imports from which.

``python docs/architecture.py`` writes the picture. An arrow that others imply is left out: if the service imports
tracking and tracking imports bundles, the service may import bundles too.
"""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "platform" / "coldray"
PICTURE = Path(__file__).parent / "img" / "architecture.svg"
SAID = {
    "core": "errors, memory, devices, files",
    "data": "sources → dataset → split",
    "features": "attributes → matrices",
    "evaluation": "ranking, metrics, intervals",
    "training": "one loop, workers, checkpoints",
    "models": "recommenders, by family",
    "bundle": "what is saved, makes lists",
    "experiments": "study, comparison, record",
    "tracking": "MLflow, registry, spool",
    "serving": "HTTP, live items, batches",
    "reports": "page, terminal, export",
    "cli": "jobs and their options",
    "command": "the command coldray",
    "front": "import coldray",
}
"""What each stage holds, in a few words; a stage that is not named here is drawn without."""
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 206, 54, 26, 46, 16


def imports() -> dict[str, set[str]]:
    """Return for each stage those that its modules import."""
    stages = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file()}
    found: dict[str, set[str]] = {stage: set() for stage in stages}
    for stage in stages:
        for path in (PACKAGE / stage).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("coldray."):
                    found[stage].add(str(node.module).split(".")[1])
        found[stage] = (found[stage] & stages) - {stage}
    return found


def reduced(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """Leave out what is reached by way of another stage."""

    def reached(stage: str) -> set[str]:
        return edges[stage].union(*(reached(one) for one in edges[stage]))

    return {stage: ends - {far for end in ends for far in reached(end)} for stage, ends in edges.items()}


def ranks(edges: dict[str, set[str]]) -> list[list[str]]:
    """Return the stages by the longest way down, those that import nothing first, each near what it imports."""
    depth: dict[str, int] = {}

    def down(stage: str) -> int:
        depth[stage] = depth.get(stage) or 1 + max((down(one) for one in edges[stage]), default=-1)
        return depth[stage]

    for stage in edges:
        down(stage)
    rows: list[list[str]] = []
    place: dict[str, float] = {}
    for rank in range(max(depth.values()) + 1):
        row = [stage for stage in sorted(edges) if depth[stage] == rank]
        row.sort(key=lambda stage: sum(place[one] for one in edges[stage]) / (len(edges[stage]) or 1))
        place |= {stage: number - len(row) / 2 for number, stage in enumerate(row)}
        rows.append(row)
    return rows


def picture() -> str:
    """Return the picture as SVG."""
    edges = reduced(imports())
    rows = ranks(edges)
    widest = max(map(len, rows))
    width = widest * (WIDTH + GAP_X) - GAP_X + 2 * MARGIN
    height = len(rows) * (HEIGHT + GAP_Y) - GAP_Y + 2 * MARGIN
    places = {}
    for rank, row in enumerate(rows):
        left = (width - len(row) * (WIDTH + GAP_X) + GAP_X) / 2
        for number, stage in enumerate(row):
            places[stage] = (left + number * (WIDTH + GAP_X), height - MARGIN - HEIGHT - rank * (HEIGHT + GAP_Y))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" role="img">',
        "<title>The stages of coldray: each imports from those below it</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#667"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for stage, ends in sorted(edges.items()):
        parts += [_arrow(places[stage], places[end]) for end in sorted(ends)]
    parts += [_box(stage, *place) for stage, place in sorted(places.items())]
    return "\n".join([*parts, "</svg>", ""])


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    x0, y0, x1, y1 = start[0] + WIDTH / 2, start[1] + HEIGHT, end[0] + WIDTH / 2, end[1]
    bend = (y1 - y0) / 2
    return (
        f'<path d="M{x0:g},{y0:g} C{x0:g},{y0 + bend:g} {x1:g},{y1 - bend:g} {x1:g},{y1:g}" fill="none" '
        'stroke="#99a" stroke-width="1.5" marker-end="url(#tip)"/>'
    )


def _box(stage: str, x: float, y: float) -> str:
    middle = x + WIDTH / 2
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#eef3fb" stroke="#3b6fb6"/>'
        f'<text x="{middle:g}" y="{y + 23:g}" text-anchor="middle" font-size="15" font-weight="bold" fill="#123">'
        f'{stage}</text><text x="{middle:g}" y="{y + 42:g}" text-anchor="middle" font-size="12" fill="#345">'
        f"{SAID.get(stage, '')}</text>"
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
