"""Context-aware rankers: whoever asks, the moment and the item are fields of features, crossed with each other."""
