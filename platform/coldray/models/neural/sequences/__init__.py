"""Models of clicks in their order."""
