"""Trying out items that may be better than is known."""
