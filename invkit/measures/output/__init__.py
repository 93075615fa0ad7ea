"""What becomes of structures and of noise at the output of a denoiser, whatever layer is asked about."""
