"""Whether a request is taken on."""
