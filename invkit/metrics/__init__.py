"""Image quality, faithfulness of samples, spectra, intervals, and the words that figures justify."""
