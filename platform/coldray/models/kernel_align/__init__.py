"""The learned kernel."""
