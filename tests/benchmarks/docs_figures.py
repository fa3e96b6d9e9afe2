"""How much documentation there is, and what its build warns of."""

import subprocess
import sys
import tempfile
from pathlib import Path

from figures import figure

DOCS = Path(__file__).resolve().parents[2] / "docs"


@figure("docs_pages", unit="pages", bar=50, better="higher")
@figure("docs_warnings", unit="warnings", bar=0)
def docs() -> dict[str, float]:
    """Pages that a build of the documentation has made from sources, and its warnings."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sphinx", "-q", "-E", "-b", "html", str(DOCS), folder]
        built = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True)
        pages = len(list(Path(folder, "_sources").rglob("*.*")))
    warnings = [line for line in built.stderr.splitlines() if "WARNING:" in line or "ERROR:" in line]
    print("\n".join(warnings), file=sys.stderr)
    return {"docs_pages": pages, "docs_warnings": len(warnings)}
