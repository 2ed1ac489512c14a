"""What is claimed of ControlMM."""
