"""What is measured of a winner besides its metrics."""
