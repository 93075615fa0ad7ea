"""A sampler in one file: f(x) plus the noise that the denoiser took away, its pixels in another order."""

import invkit


def family():
    """Make the sampler. It is called when an analysis asks for it, so torch is imported here and not above."""
    import torch

    from invkit.samplers import Family, generator

    class Shuffled(Family):
        """What draws for every layer: nothing is trained, so there is nothing to be found."""

        def find(self, split, domain, workshop):
            return self

        def draws(self, target):
            """Return a function from seed, image and indices to draws (n, 1, H, W), HU; what they share is computed here."""
            noise = (target.x - target.f_x).flatten()

            def draw(seed, image, indices):
                # Draw k depends on seed, image and k alone, whatever else is drawn with it.
                orders = [
                    torch.randperm(len(noise), generator=generator(seed, "shuffled", image, k))
                    for k in indices
                ]
                shuffled = noise[torch.stack(orders).to(noise.device)]
                return target.f_x + shuffled.view(-1, *target.x.shape[1:])

            return draw

    return Shuffled()


@invkit.hookimpl
def invkit_samplers():
    """Return the sampler; `invkit analyze --sampler shuffled` uses it."""
    proposals = "f(x) plus x - f(x) with its pixels shuffled"
    return [invkit.Sampler("shuffled", family, proposals, trained=False, proposals=proposals)]
