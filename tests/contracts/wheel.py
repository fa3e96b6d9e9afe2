"""The wheel of the library, in an environment of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("platform", "tune_spaces", "pyproject.toml", "README.md", "LICENSE")


def run(*command, cwd, **options):
    """Return what a command prints, which must end well."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=400, check=False, **options
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def installed_wheel(folder):
    """Build the wheel, install it alone below a folder, and return where its commands are.

    What it needs is taken from the environment that this runs in, so that nothing is fetched; the library is not.
    """
    for name in SOURCES:  # a copy: to build leaves files beside what is built
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / "tree" / name, symlinks=True, ignore=shutil.ignore_patterns("*.egg-info"))
        else:
            shutil.copy(source, folder / "tree" / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    build = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder / "tree")
    run(*pip, *build, cwd=folder)
    (wheel,) = folder.glob("coldray-*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "env", cwd=folder)
    python = folder / "env" / "bin" / "python"
    run(*pip, "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    # A line of a .pth file is a folder whose own .pth files are not read: an editable coldray there is not found.
    needs = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "what_it_needs.pth").write_text("\n".join(needs) + "\n")
    return folder / "env" / "bin"
