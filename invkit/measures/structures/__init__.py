"""What becomes of structures and of noise at a layer and at the output."""
