"""Which images are certified, and where an image stands among held-out ones."""
