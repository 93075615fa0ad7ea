"""Codes that are conditioned on the denoised image."""
