"""The text + graph recommender."""
