"""Popularity, known and predicted."""
