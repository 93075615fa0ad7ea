"""Weights of denoisers: read by their hash, renamed, converted, installed."""
