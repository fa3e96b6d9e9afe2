"""Ranking, metrics and significance."""
