"""Data to learn from: PocketWorld, and readers of real data, one a file."""
