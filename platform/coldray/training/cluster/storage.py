"""Whether all nodes of a cluster see the same folder: where they do not, checkpoints of workers would be lost."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from coldray.core.errors import OutputError
from coldray.core.files import replacing


def require_shared(folder: Path) -> None:
    """Check that every node of the cluster reads in `folder` what this process writes there.

    Raises
    ------
    OutputError
        If the folder cannot be written, or a node does not see it.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if len(nodes) < 2:
        return
    mark = uuid.uuid4().hex
    path = folder / f".shared-{mark}"
    with replacing(path) as temporary:
        temporary.write_text(mark, encoding="ascii")
    try:
        found = ray.get([_reads.options(scheduling_strategy=_on(node)).remote(path, mark) for node in nodes])
    finally:
        path.unlink(missing_ok=True)
    blind = sorted(host for host, reads in found if not reads)
    if blind:
        raise OutputError(
            f"{folder} is not shared by the nodes of the cluster: {', '.join(blind)} cannot read there what "
            f"{socket.gethostname()} writes. Give a folder on storage that all nodes have at one path, such as NFS."
        )


def _on(node: dict[str, str]) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


@ray.remote(num_cpus=0)
def _reads(path: Path, mark: str) -> tuple[str, bool]:
    try:
        return socket.gethostname(), path.read_text(encoding="ascii") == mark
    except OSError:
        return socket.gethostname(), False
