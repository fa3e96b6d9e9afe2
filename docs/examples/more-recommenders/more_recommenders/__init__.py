"""Models, a source and a metric beyond those of coldray, which finds them by the entry points of this package."""
