"""Training from shards on disk."""
