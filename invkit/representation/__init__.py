"""Codes of images: the VAE-WGAN (E, D, C), its linear rival, and regressors from activations to images."""
