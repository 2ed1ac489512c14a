"""Scores: pictures, detections, motions or files in, one number with its settings out."""
