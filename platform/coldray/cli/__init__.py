"""What the jobs run: the whole way from source to report."""
