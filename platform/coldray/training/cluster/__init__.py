"""Training by several workers on Ray Train."""
