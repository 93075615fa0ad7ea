"""Intervals, resampling, convergence and moments."""
