"""What the regressor leaves, coded tile by tile."""
