"""Numbers: what is measured, against which claim, and where the results stand."""
