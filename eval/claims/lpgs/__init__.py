"""What is claimed of LPGS."""
