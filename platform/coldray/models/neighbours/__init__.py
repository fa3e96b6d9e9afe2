"""Models of nearest neighbours."""
