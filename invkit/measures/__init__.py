"""What is measured of a layer: references, controls, spread, noise, anatomy, information."""
