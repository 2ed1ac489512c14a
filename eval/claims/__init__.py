"""What is claimed of each method, and of the world and the encoders that all of them share."""
