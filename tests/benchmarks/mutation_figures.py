"""The share of small faults in the package that its tests notice; a sample of each area by a fixed seed."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from figures import SkippedError, figure

SAMPLER = Path(__file__).resolve().parents[1] / "mutants" / "run.py"


@figure("mutants_killed_evaluation", unit="share", bar=0.9, better="higher")
@figure("mutants_killed_closed_forms", unit="share", bar=0.9, better="higher")
@figure("mutants_killed_learned_kernel", unit="share", bar=0.8, better="higher")
@figure("mutants_killed_selection", unit="share", bar=0.9, better="higher")
def mutants_killed() -> dict[str, float]:
    """Measure it in a process that has not imported the package: it hands out faulty modules."""
    if find_spec("coverage") is None:
        raise SkippedError("no package coverage; install the extra 'mutants'")
    finished = subprocess.run([sys.executable, str(SAMPLER)], stdout=subprocess.PIPE, text=True, check=True)
    return {f"mutants_killed_{area}": share for area, share in json.loads(finished.stdout).items()}
