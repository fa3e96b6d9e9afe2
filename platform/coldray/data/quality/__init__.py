"""What is to be known of a dataset before it is used."""
