"""Lists made from a bundle."""
