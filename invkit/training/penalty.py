"""The gradient penalty that keeps a Wasserstein critic 1-Lipschitz."""

__all__ = ["gradient_penalty"]

from collections.abc import Callable

import torch
from torch import Tensor

from invkit.training.processes.distributed import Shard

WHOLE = Shard()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    generator: torch.Generator,
    shard: Shard = WHOLE,
) -> Tensor:
    """Return `mean (|grad C(u)| - 1)^2` on random points u between real and fake (Gulrajani et al. 2017, eq. 3).

    Args:
        critic: images `(B, 1, H, W)` to scores, `(B,)` or `(B, 1)`.
        real: images `(B, 1, H, W)`.
        fake: images to be told from them, of the same shape.
        generator: of the position of each u; in the same state in all processes that share the batch.
        shard: which part of the batch these images are.
    """
    count = len(real) * shard.world
    share = torch.rand((count, 1, 1, 1), generator=generator, device=generator.device, dtype=real.dtype)
    share = share[shard.slice(count)].to(real.device)
    between = (share * real + (1 - share) * fake).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).float().sum(), between, create_graph=True)
    penalty: Tensor = (gradient.flatten(1).float().norm(dim=1) - 1).square().mean()
    return penalty
