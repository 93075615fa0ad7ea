"""Denoisers whose invariances are known in closed form."""
