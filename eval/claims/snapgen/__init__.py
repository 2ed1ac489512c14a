"""What is claimed of SnapGen."""
