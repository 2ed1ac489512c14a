"""Scores: pictures, detections or files in, one number with its settings out."""
