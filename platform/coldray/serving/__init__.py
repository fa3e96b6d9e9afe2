"""The recommendation service: a bundle behind HTTP, on Ray Serve."""
