"""Seeds of every random draw of a training, derived from its position, so that a replay draws the same again."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What is drawn; each purpose has a stream of its own."""

    WEIGHTS = 0
    ORDER = 1
    BATCH = 2
    MODULE = 3
    VALIDATION = 4
    ROWS = 5


def derived_seed(train_seed: int, purpose: Purpose, epoch: int = 0, step: int = 0, rank: int = 0) -> int:
    """Return a 64-bit seed that depends on all the arguments; neighbouring positions give unrelated streams."""
    sequence = np.random.SeedSequence([train_seed, purpose, epoch, step, rank])
    return int(sequence.generate_state(1, np.uint64)[0])


def derived_generator(train_seed: int, purpose: Purpose, epoch: int, step: int = 0, rank: int = 0) -> torch.Generator:
    """Return a generator on the CPU with the seed of that position."""
    return torch.Generator().manual_seed(derived_seed(train_seed, purpose, epoch, step, rank))


def seed_default_generator(seed: int, device: torch.device) -> None:
    """Seed torch's default generators of the CPU and of that device; ``torch.manual_seed`` would seed all devices."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    torch.default_generator.manual_seed(seed)
