"""What the world's benchmark measures in the contract: how much less than it does by itself."""

MEASURED = {"picture_size": 16, "pictures": 24, "repeats": 2, "groups": 1, "group_size": 6}
NOT_MEASURED: dict[str, str] = {}
LACKING: dict[str, set[str]] = {}
"""Measurement -> rows that `MEASURED` leaves out."""
