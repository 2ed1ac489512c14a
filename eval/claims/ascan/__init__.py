"""What is claimed of AsCAN."""
