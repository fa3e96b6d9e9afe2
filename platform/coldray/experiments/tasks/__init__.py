"""The tasks that some protocols look for in one fold: cold and warm items, apart and together."""
