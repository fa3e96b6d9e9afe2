"""Linear models of clicks."""
