"""Cold-start models of the field: a space of factors, and networks that place new items in it by their attributes."""
