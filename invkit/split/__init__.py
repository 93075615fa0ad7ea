"""Cutting a denoiser at a layer: f = Psi o Phi."""
