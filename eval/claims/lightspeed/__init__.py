"""What is claimed of LightSpeed, and how it is measured."""
