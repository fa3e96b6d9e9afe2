"""One module a model, one protocol for all."""
