"""Codes on a grid, and a wavelet flow over them."""
