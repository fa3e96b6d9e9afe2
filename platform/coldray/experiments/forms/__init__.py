"""In which form the fits of a study are made."""
