"""Training objectives as small functions and modules: one noun a file."""
