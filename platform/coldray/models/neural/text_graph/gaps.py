"""What the text + graph recommender could not read of the items, counted and in words."""

from __future__ import annotations

from coldray.core.spelling import choices
from coldray.features.feature_set import FeatureSet
from coldray.models.neural.text_graph.graph import ItemGraph, is_label
from coldray.models.neural.text_graph.network import GRAPH, TEXT
from coldray.models.neural.text_graph.texts import attributes_read, has_embeddings, without_text
from coldray.models.state import Arrays
from coldray.models.transfer.similarity import arrays_under


def left_out(features: FeatureSet, inputs: Arrays) -> list[str]:
    """Return a sentence for each kind of gap.

    Parameters
    ----------
    features
        What is known of the items.
    inputs
        What the network is built of.
    """
    texts, graph = arrays_under(TEXT, inputs), ItemGraph.from_arrays(arrays_under(GRAPH, inputs))
    read = {*attributes_read(texts), *graph.kept, *graph.bounds}
    unread = [name for name in features.features if name not in read]
    empty = [name for name in unread if is_label(features.features[name])]
    rest = [name for name in unread if name not in empty]
    lines = [*_text_gaps(texts, graph.n_items)]
    if empty:
        lines.append(f"No label of {choices(empty)} is on two items with clicks: these attributes are not used.")
    if graph.unconnected:
        lines.append(f"{graph.unconnected:,} of {graph.n_items:,} items have no label in the graph.")
    if rest:
        lines.append(f"Neither view reads {choices(rest)}; known_before_release may name numbers.")
    return lines


def _text_gaps(texts: Arrays, n_items: int) -> list[str]:
    no_overview, nothing = without_text(texts)
    if not has_embeddings(texts):
        read = choices(attributes_read(texts))
        return [
            f"No text is embedded, so the text view reads {read}; {nothing:,} of {n_items:,} items have none of these."
        ]
    if not no_overview:
        return []
    return [
        f"{no_overview:,} of {n_items:,} items have no overview; {nothing:,} have no text at all, and are alike in the "
        "text view."
    ]
