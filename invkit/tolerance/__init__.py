"""How far two activations are apart, in units of a repeat scan, and where on the image that can be told."""
