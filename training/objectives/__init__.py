"""Objectives: what is trained toward, one noun a file; each gets its model as an argument."""
