"""The pictures that a benchmark draws of its numbers."""
