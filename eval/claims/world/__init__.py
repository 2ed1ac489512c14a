"""What is claimed of PocketWorld, of the encoders that know it, and of the rules that judge pictures of it."""
