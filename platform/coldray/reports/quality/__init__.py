"""The report of a data check."""
