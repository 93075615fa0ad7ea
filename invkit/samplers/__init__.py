"""Families of samplers, one folder each."""
