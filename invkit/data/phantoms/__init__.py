"""Digital phantoms: bodies drawn from a seed, in HU."""
