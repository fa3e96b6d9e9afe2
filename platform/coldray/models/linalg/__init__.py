"""Linear algebra that several families of models share."""
