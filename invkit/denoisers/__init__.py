"""Denoisers: what describes them, how they are built, loaded and trained."""
