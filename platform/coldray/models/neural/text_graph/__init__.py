"""The text + graph recommender."""

from coldray.core.extras import require_extra

require_extra("graph", "The model 'text_graph'", ("torch_geometric",))
