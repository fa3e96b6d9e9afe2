"""Comparisons of studies on the same splits."""
