"""What is claimed of BitsFusion."""
