"""The flow is exactly invertible, and its log-determinant is that of its Jacobian."""

__all__ = ["check_flow"]

import copy

import torch
from torch import Tensor

from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.flow.diagnostics import log_det_error, round_trip_error
from invkit.validate.rows import Row, Seeds

ROWS = 64
SHAKEN = 0.02
# The default network, and what the published ones have in its place.
VARIANTS = (
    CinnConfig(),
    CinnConfig(mixing="rotation", affine=False),
    CinnConfig(separate=True, activation="leaky_relu", depth=2, clamp=1.0, affine=False),
)


def check_flow(seeds: Seeds, variants: tuple[CinnConfig, ...] = VARIANTS) -> list[Row]:
    """Return the largest errors over networks of full size whose parameters are all away from their start."""
    single, double, log_det = [], [], []
    for index, config in enumerate(variants):
        z_bar = seeds.randn(ROWS, config.d, path="codes")
        cinn = _shaken(CINN(config, (config.d,)), seeds.generator("parameters", index)).eval()
        with torch.no_grad():
            h = cinn.embed(seeds.randn(ROWS, config.d, path="conditions"))
        single.append(round_trip_error(cinn, z_bar, h))
        double.append(round_trip_error(copy.deepcopy(cinn).double(), z_bar.double(), h.double()))
        log_det.append(log_det_error(cinn, z_bar[:1], h[:1]))
    inverse = "largest difference of a code of 256 numbers from t^-1(t(code))"
    return [
        Row("flow.inverse", f"{inverse}, in single precision", max(single), 1e-4),
        Row("flow.inverse-double", f"{inverse}, in double precision", max(double), 1e-10),
        Row(
            "flow.logdet",
            "largest difference of log_det from that of the Jacobian by autograd",
            max(log_det),
            1e-6,
        ),
    ]


@torch.no_grad()
def _shaken(cinn: CINN, generator: torch.Generator) -> CINN:
    for parameter in cinn.parameters():
        noise: Tensor = torch.randn(parameter.shape, generator=generator)
        parameter.add_(SHAKEN * noise)
    return cinn
