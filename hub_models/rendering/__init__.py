"""Cameras, splats and what renders them: torch and libraries only."""
