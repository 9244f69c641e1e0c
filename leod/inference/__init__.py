"""Running a trained detector over whole sequences."""
