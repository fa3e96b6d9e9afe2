"""Lists of all users."""
