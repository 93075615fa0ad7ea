"""What is trained, found or kept for an analysis: presets, codes, layers, their scales, the store."""
