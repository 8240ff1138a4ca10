"""Compare experiments."""
