"""Which images are certified to lie in the epsilon-fiber, and how plausible they are."""
