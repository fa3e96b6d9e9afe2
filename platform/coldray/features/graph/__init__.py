"""Features of the graph of users and items that clicks make, as of a moment."""
