"""The training layer: a model states its module, its loss and its batches; the layer does the rest."""
