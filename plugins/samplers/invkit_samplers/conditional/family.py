"""The sampler `conditional`: flat codes of what f(x) does not say, of a VAE that is given f(x), and a cINN."""

__all__ = ["Conditional", "given_code"]

from pathlib import Path

from invkit import LoadedDenoiser, Split
from invkit.samplers import Domain, TrainedFamily, Workshop, read_layer
from invkit_samplers.conditional.code import ConditionalConfig
from invkit_samplers.conditional.model import ConditionalModel
from invkit_samplers.conditional.train import (
    ConditionalVaeRequest,
    ConditionalVaeTraining,
    TrainedConditional,
    load_conditional,
)
from invkit_samplers.conditional.train_flow import ConditionalRequest, ConditionalTraining


class Conditional(TrainedFamily):
    """One code of a denoiser, and a cINN for each layer."""

    what, training = "cINN given f(x)", ConditionalTraining

    def request(self, split: Split, domain: Domain, workshop: Workshop) -> ConditionalRequest:
        """Return what the cINN of a layer or control is to be."""
        code = given_code(split.denoiser, domain, workshop)
        return ConditionalRequest.of(split, domain, workshop, code=code)

    def read(self, path: Path, request: ConditionalRequest, sha256: str | None = None) -> ConditionalModel:
        """Return the cINN in a file."""
        fields, held_out = read_layer(path, request, sha256)
        return ConditionalModel(vae=request.code.vae, others=request.code.others, held_out=held_out, **fields)


def given_code(denoiser: LoadedDenoiser, domain: Domain, workshop: Workshop) -> TrainedConditional:
    """Return the VAE that is given this denoiser's f(x), of a domain, found or trained."""
    config = workshop.config
    settings = config.settings("conditional", ConditionalConfig)
    request = ConditionalVaeRequest(
        domain, workshop.slices, settings, config.dose, workshop.seed, denoiser=denoiser
    )
    what = f"VAE for {domain}-dose images given f(x) of {denoiser.name}"
    return workshop.code(request, ConditionalVaeTraining, load_conditional, what=what)
