"""What one looks at in an image: frequency bands, spectra, display windows, flat parts, regions, discs."""
