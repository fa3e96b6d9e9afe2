"""The texts of a job: embedded once, before anything is fitted."""

from __future__ import annotations

import ray

from coldray.cli.progress.study import StudyProgress
from coldray.data.dataset import TextAttribute
from coldray.experiments.prepared import PreparedStudy
from coldray.features.builder import choose_methods, read_attributes
from coldray.features.text_embeddings import EmbeddingConfig

_FEW_TEXTS = 2000
"""Fewer new texts than that are embedded by this process, before workers of the cluster would have loaded the model."""


def embedded_texts(study: PreparedStudy) -> dict[str, tuple[str, ...]]:
    """Return the texts of items that the study embeds, by their attributes: one an item."""
    config, dataset = study.config, study.dataset
    if config.encoded_features is None:
        return {}
    methods = choose_methods(dataset, config.features)
    read = read_attributes(dataset, config.features) if "embedding" in methods.values() else {}
    found = {name: read[name] for name, method in methods.items() if method == "embedding"}
    return {name: attribute.texts for name, attribute in found.items() if isinstance(attribute, TextAttribute)}


def encode_texts(study: PreparedStudy, progress: StudyProgress) -> None:
    """Fill the embedding cache once, with a progress bar, before the splits read from it side by side.

    Many texts are embedded by all CPUs of the connected cluster. An embedding depends on its text alone, so nothing of
    the test items reaches the selection by this.

    Raises
    ------
    ConfigError
        If the sentence model cannot be loaded.
    ClusterError
        If Ray gives up on the workers; what they had embedded is kept.
    """
    config, of_items = study.config, embedded_texts(study)
    if not of_items:
        return
    progress.stage(f"embedding the texts of {', '.join(of_items)} with {config.features.embedding_model}")
    for name, texts in of_items.items():
        if blank := sum(not text.strip() for text in texts):
            progress.stage(f"{blank:,} of {len(texts):,} items have no {name}")
    from coldray.features.embedding_job import embed_texts  # Ray Data takes a second to import

    counts = embed_texts(
        [text for texts in of_items.values() for text in texts],
        EmbeddingConfig(model=config.features.embedding_model, cache_folder=config.features.embedding_cache),
        workers=max(int(ray.cluster_resources().get("CPU", 1)), 1),  # type: ignore[no-untyped-call]
        fewest=_FEW_TEXTS,
    )
    progress.stage(f"{counts.texts:,} different texts: {counts.encoded:,} embedded now, {counts.cached:,} before")
