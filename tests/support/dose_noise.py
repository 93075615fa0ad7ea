"""A noise-free slice at full and at low dose, by the parts of the simulator."""

from invkit.data.dose import rays
from invkit.data.dose.scanner import Scanner


def noisy_pair(clean, spacing, *, dose, seed, photons=None, noise=None, **scanner):
    """Return y and x `(B, 1, H, W)`, HU: `clean` with the noise of full dose, and y with what `simulate_dose` adds to it."""
    scan = rays._scan(clean, spacing, Scanner(**scanner))
    full, low = rays._draw(clean, scan, dose, seed, photons, noise)
    y = clean + scan.reconstruct(full).to(clean)
    return y, y if dose == 1 else y + scan.reconstruct(low - full).to(clean)
