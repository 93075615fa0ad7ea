"""A flow over Haar wavelets of the image itself."""
