"""A noise-free slice at full and at low dose, by the parts of the simulator."""

from invkit.data.dose import rays


def noisy_pair(
    clean,
    spacing,
    *,
    dose,
    seed,
    photons=None,
    noise=None,
    electronic=rays.ELECTRONIC,
    kernel="standard",
    geometry=rays.GEOMETRY,
    bowtie=False,
    modulation=False,
):
    """Return y and x `(B, 1, H, W)`, HU: `clean` with the noise of full dose, and y with what `simulate_dose` adds to it."""
    scan = rays._scan(clean, spacing, electronic, kernel, geometry, bowtie, modulation)
    full, low = rays._draw(clean, scan, dose, seed, photons, noise)
    y = clean + scan.reconstruct(full).to(clean)
    return y, y if dose == 1 else y + scan.reconstruct(low - full).to(clean)
