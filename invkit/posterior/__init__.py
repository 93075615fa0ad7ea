"""What is left of an image once a layer's activation is known to a tolerance: draws, and what an observer still sees."""
