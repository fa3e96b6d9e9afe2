"""The protocols of splits, by name."""

from __future__ import annotations

from typing import Literal, TypeAlias

ColdItemProtocol: TypeAlias = Literal["notebook", "balanced", "item-file"]
"""``notebook``: 60/20/20 of the items. ``balanced``: 80/20 of the interactions, twice. ``item-file``: as a table lists
them, see :mod:`~coldray.data.splits.item_file`."""
DrawnProtocol: TypeAlias = Literal[
    "holdout", "leave-last", "temporal", "per-user-temporal", "user-holdout", "k-fold", "rolling-origin"
]
"""Which interactions are held out, see :func:`~coldray.data.splits.interactions.interaction_splits`."""
InteractionProtocol: TypeAlias = Literal[DrawnProtocol, "predefined"]
"""The same; ``predefined`` takes the parts that the data are published in, see
:mod:`~coldray.data.splits.published`."""
WarmingProtocol: TypeAlias = Literal["item-warming", "user-warming", "user-cold"]
"""What was cold becomes known click by click, see :mod:`~coldray.data.splits.warming`."""
MixedProtocol: TypeAlias = Literal["recsys-cold"]
"""Cold items beside warm ones, in three tasks, see :mod:`~coldray.data.splits.recsys_cold`."""
Protocol: TypeAlias = Literal[ColdItemProtocol, WarmingProtocol, MixedProtocol, InteractionProtocol]
