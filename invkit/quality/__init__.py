"""Image quality of a denoiser, on slices and data sets."""
