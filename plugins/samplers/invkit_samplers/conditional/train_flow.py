"""Training a layer's cINN on the codes of the VAE that is given f(x)."""

__all__ = ["ConditionalRequest", "ConditionalTraining"]

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from invkit import Split
from invkit.samplers import AT_ONCE, LayerRequest, LayerTraining, Regressor
from invkit_samplers.conditional.code import ConditionalConfig
from invkit_samplers.conditional.model import estimate_and_output
from invkit_samplers.conditional.train import TrainedConditional


@dataclass(frozen=True)
class ConditionalRequest(LayerRequest):
    """What decides how a layer's cINN on the codes of a VAE that is given f(x) comes out.

    The VAE without a condition does not: it is a reference only.

    Args:
        code: the VAE that is given f(x), of the layer's denoiser and the target domain.
    """

    kind = "conditional"

    code: TrainedConditional = field(kw_only=True)

    def __post_init__(self) -> None:
        # The length of a code is the VAE's, whatever the preset was made for.
        config, d = self.config, self.code.vae.d
        rows = config.settings("conditional", ConditionalConfig).rows
        own = config.model_copy(
            update={"cinn": config.cinn.model_copy(update={"d": d}), "rows": min(config.rows, rows)}
        )
        object.__setattr__(self, "config", own)

    def describe(self) -> dict[str, Any]:
        """Return the request as JSON values; its fingerprint is the key of the result."""
        return {**super().describe(), "vae": self.code.sha256}


class ConditionalTraining(LayerTraining):
    """One run from nothing to a file; each stage resumes from its own checkpoints."""

    request: ConditionalRequest

    @property
    def patch(self) -> int:
        """Side of the patches that are coded."""
        return self.request.code.vae.patch

    def more(self) -> dict[str, Any]:
        """Return what the code keeps of held-out patches, so that it can be compared with that of other representations."""
        meta = self.request.code.meta
        return {"completeness": meta["held_out"], "vae_trained_on": meta.get("trained_on", "")}

    def coded(
        self,
        split: Split,
        x: Tensor,
        target: Tensor,
        regressor: Regressor,
        *,
        stages: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and log-variance of the codes of patches, and the condition of each."""
        size = (x.shape[-2], x.shape[-1])
        pieces = [
            estimate_and_output(split, regressor, split.phi(part), size, stages=stages)
            for part in torch.split(x, AT_ONCE)
        ]
        estimate, output = (torch.cat(maps) for maps in zip(*pieces, strict=True))
        vae = self.request.code.vae
        of_z = vae.encode(estimate, output)
        if split.layer == "const":
            # The same codes as for every layer: only the flow does not know f(x).
            output = torch.cat([split.denoiser(part) for part in torch.split(x, AT_ONCE)])
        posterior = vae.encode(target, output)
        return posterior.mean, posterior.log_var, torch.cat([of_z.mean, of_z.log_var], dim=1)
