"""Item attributes → matrices."""
