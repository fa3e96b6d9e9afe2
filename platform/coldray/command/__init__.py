"""The command ``coldray``."""
