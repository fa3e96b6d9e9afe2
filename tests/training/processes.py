"""Workers as plain processes, which start faster than Ray's."""

from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from coldray.training.cluster.workers import ProcessGroupWorkers
from coldray.training.gradients import Divergence
from coldray.training.loop import TrainingLoop
from coldray.training.options import FitOptions
from training.planted import Awkward


def run(rank, size, folder, config):
    """Train on several workers, then meet a NaN on one of them, then gather; leave in `folder` what came of it."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    folder = Path(folder)
    workers, cpu = ProcessGroupWorkers(), torch.device("cpu")
    loop = TrainingLoop(Awkward(), config, FitOptions(), workers, cpu, lambda snapshot: None)
    loop.run()
    losses = torch.tensor([record.loss for record in loop.progress.history], dtype=torch.float64)
    hits = torch.tensor([record.metrics["hit"] for record in loop.progress.history], dtype=torch.float64)
    save_file({**loop.best, "losses": losses, "hits": hits}, folder / f"trained-{rank}.safetensors")
    diverging = TrainingLoop(Awkward(diverges=True), config, FitOptions(), workers, cpu, lambda snapshot: None)
    try:
        diverging.run()
    except Divergence as divergence:
        (folder / f"diverged-{rank}.txt").write_text(diverging.describe(divergence))
    save_file(gathered(rank, workers), folder / f"gathered-{rank}.safetensors")
    dist.destroy_process_group()


def rows_of(rank, size=None):
    """Return rows of one worker: 3, 0 and 1 of them."""
    generator = torch.Generator().manual_seed(rank)
    return torch.randn((3, 0, 1)[rank], 2, generator=generator, dtype=torch.float64)


def objective(rows, whole, rank):
    """Return a loss of `rows` beside all rows, with a weight of the worker's own."""
    return ((rank + 1) * torch.sin(rows @ whole.T)).sum()


def gathered(rank, workers):
    """Return what a worker gathered, where its rows begin, and their gradient; of other types too."""
    rows = rows_of(rank).requires_grad_()
    whole, start = workers.gather(rows)
    loss = objective(rows, whole, rank)
    torch.autograd.backward([loss, *workers.take_gathered()], [torch.ones_like(loss), torch.zeros_like(whole)])
    fixed = rows_of(rank).requires_grad_(rank == 0)
    others, _ = workers.gather(fixed)
    loss = objective(fixed, others, rank)
    torch.autograd.backward([loss, *workers.take_gathered()], [torch.ones_like(loss), torch.zeros_like(others)])
    ids, _ = workers.gather(torch.arange(len(rows)) + 10 * rank)
    with torch.no_grad():
        quiet, _ = workers.gather(rows)
    empty, _ = workers.gather(torch.empty(0, 4))
    return {
        "whole": whole.detach(),
        "start": torch.tensor(start),
        "gradient": rows.grad,
        "gradient of the first alone": torch.zeros(0) if fixed.grad is None else fixed.grad,
        "ids": ids,
        "quiet": quiet,
        "left": torch.tensor(len(workers.take_gathered())),
        "empty": torch.tensor(empty.shape),
    }
