"""The models that a replica serves, and how they change."""
