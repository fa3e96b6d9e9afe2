"""What each job does."""
