"""Every figure and the report."""
