"""Spaces, studies and selection."""
