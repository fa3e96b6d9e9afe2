"""What the columns of tables that nobody has described mean: guessed, with the reason and how sure it is."""
