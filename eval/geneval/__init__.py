"""GenEval: its rules, its detectors, and its score on stored or fresh detections."""
