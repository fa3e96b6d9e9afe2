"""Files of tables, read as they are found."""
