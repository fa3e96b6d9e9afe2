"""Splits: who is train, validation and test."""
