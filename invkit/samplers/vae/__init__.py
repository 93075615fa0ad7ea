"""The published method: codes of a VAE-WGAN, and a cINN for each layer."""
