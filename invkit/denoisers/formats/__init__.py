"""Denoisers as files, Python objects and programs: each kind is turned into a network."""
