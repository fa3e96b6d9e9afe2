"""The report of several categories."""
