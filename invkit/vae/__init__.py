"""The VAE-WGAN of flat codes: E, D and C, their training and their file."""
