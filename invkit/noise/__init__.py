"""The noise of the image under test."""
