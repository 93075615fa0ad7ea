"""The sampler `conditional`: flat codes of what f(x) does not say, of a VAE that is given f(x), and a cINN."""

__all__ = ["Conditional", "given_code"]

from invkit.data.patches import Domain
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.parts.workshop import Workshop
from invkit.samplers.conditional.code import ConditionalConfig
from invkit.samplers.conditional.fit import TrainedConditional, load_conditional
from invkit.samplers.conditional.model import ConditionalModel
from invkit.samplers.conditional.train import (
    ConditionalRequest,
    ConditionalVaeRequest,
    find_conditional,
    find_conditional_vae,
    learn_conditional,
    learn_conditional_vae,
)
from invkit.samplers.family import Family
from invkit.split.split import Split


class Conditional(Family):
    """One code of a denoiser, and a cINN for each layer."""

    what = "cINN given f(x)"

    def find(self, split: Split, domain: Domain, workshop: Workshop) -> ConditionalModel | None:
        """Return the cINN of a layer or control, bundled or cached."""
        return find_conditional(_request(split, domain, workshop), workshop.store)

    def learn(self, split: Split, domain: Domain, workshop: Workshop) -> None:
        """Train the cINN of a layer or control."""
        learn_conditional(_request(split, domain, workshop), workshop.store, progress=workshop.progress)


def _request(split: Split, domain: Domain, workshop: Workshop) -> ConditionalRequest:
    return ConditionalRequest(
        split,
        workshop.vae(domain),
        workshop.slices,
        workshop.config,
        domain,
        workshop.seed,
        code=given_code(split.denoiser, domain, workshop),
    )


def given_code(denoiser: LoadedDenoiser, domain: Domain, workshop: Workshop) -> TrainedConditional:
    """Return the VAE that is given this denoiser's f(x), of a domain, found or trained."""
    config, store, device = workshop.config, workshop.store, workshop.device
    request = ConditionalVaeRequest(
        domain,
        workshop.slices,
        config.settings("conditional", ConditionalConfig),
        config.dose,
        workshop.seed,
        denoiser=denoiser,
    )
    return workshop.learned(
        ("conditional", denoiser.sha256, domain),
        f"VAE for {domain}-dose images given f(x) of {denoiser.name}",
        lambda: find_conditional_vae(request, store, device=device),
        lambda: load_conditional(
            learn_conditional_vae(request, store, device=device, progress=workshop.progress), device=device
        ),
    )
