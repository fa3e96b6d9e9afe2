"""Items as vectors, and what is near them."""
