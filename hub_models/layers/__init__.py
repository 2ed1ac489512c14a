"""Building blocks of the models: one noun a file."""
