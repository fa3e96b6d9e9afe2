"""MARec and its closed form."""
