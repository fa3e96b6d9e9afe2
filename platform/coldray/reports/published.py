"""Published results, as data: what the paper reports on the dataset that it reports them on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coldray.data.splits.items import HeldOut


@dataclass(frozen=True)
class PublishedTable:
    """The results of one table of a paper."""

    dataset: str
    """The name that coldray gives the dataset."""
    title: str
    """The dataset in words."""
    n_users: int
    n_items: int
    """Both after the paper's filters: a dataset filtered otherwise is another dataset. Items have clicks."""
    source: str
    protocol: str
    """How the published numbers were averaged."""
    methods: Mapping[str, Mapping[str, float]]
    """Metric values by method, in the order of the table."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that any of the methods has."""
        return tuple(dict.fromkeys(metric for row in self.methods.values() for metric in row))

    def describes(self, dataset: Mapping[str, Any]) -> bool:
        """Tell whether a study's ``dataset`` is the one that these results were measured on."""
        return (
            dataset.get("name") == self.dataset
            and dataset.get("n_users") == self.n_users
            and dataset.get("n_items", 0) - dataset.get("n_unclicked_items", 0) == self.n_items
            and not dataset.get("synthetic", False)
        )


def _row(hr10: float, ndcg10: float, hr25: float, ndcg25: float) -> dict[str, float]:
    return {"hr@10": hr10, "ndcg@10": ndcg10, "hr@25": hr25, "ndcg@25": ndcg25}


HETREC = PublishedTable(
    dataset="hetrec",
    title="HetRec 2011 with the paper's filters",
    n_users=2107,
    n_items=6234,
    source="Monteil et al., MARec: Metadata Alignment for cold-start Recommendation, RecSys 2024, "
    "arXiv 2404.13298, Table 3",
    protocol="averages over 10 item-cold folds",
    methods={
        "ItemKNNCF": _row(0.1175, 0.1335, 0.1130, 0.1214),
        "Wide&Deep": _row(0.1555, 0.1762, 0.1479, 0.1588),
        "FM": _row(0.1790, 0.1946, 0.1808, 0.1842),
        "CLCRec": _row(0.0815, 0.0763, 0.0909, 0.0848),
        "EQUAL": _row(0.1310, 0.1470, 0.1124, 0.1252),
        "NFC": _row(0.1904, 0.2076, 0.1748, 0.1866),
        "MARec": _row(0.2928, 0.3071, 0.2717, 0.2826),
    },
)


def published_for(dataset: Mapping[str, Any], held_out: HeldOut = "items") -> PublishedTable | None:
    """Return the published results on ``dataset``; None when nothing published is comparable: all is of cold items."""
    return HETREC if held_out == "items" and HETREC.describes(dataset) else None


def no_comparison(dataset: Mapping[str, Any], held_out: HeldOut = "items") -> str:
    """Return, in sentences, why no published result is comparable with one on ``dataset``."""
    if held_out == "interactions":
        return (
            "There is no comparison with published numbers: they are of cold items, and this study holds out "
            "interactions."
        )
    kind = "generated data" if dataset.get("synthetic", False) else "not the published dataset"
    return (
        f"There is no comparison with published numbers: the dataset of this study ({dataset.get('name', 'unnamed')}) "
        f"is {kind}. The published numbers are for {HETREC.title}: {HETREC.n_users:,} users × {HETREC.n_items:,} items."
    )
