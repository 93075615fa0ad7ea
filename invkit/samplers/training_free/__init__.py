"""The denoiser's own output with noise like that which it removed: nothing is trained."""
