"""The network of a regressor g: z -> x_hat, from the activation of any layer back to the image.

It turns an activation of any shape into something that an encoder of images understands: E(g(z)) is a far better
condition for a flow than what an embedder learns from z in the same time, and it treats all layers alike.
"""

__all__ = ["Activation", "Phi", "Regressor", "RegressorConfig"]

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)
from torch import Tensor, nn
from torch.nn import functional

from invkit.data.slices import HU_RANGE
from invkit.errors import ArtifactError, DenoiserError, UsageError
from invkit.regressor.block import Block
from invkit.regressor.entry import Entry
from invkit.regressor.ridge import Moments
from invkit.regressor.stage import MEMORY, Stage, Trace
from invkit.training.precision import in_float64, mixed_precision
from invkit.training.seeds import derive_seed, seeded

Activation = Tensor | tuple[Tensor, ...]
Phi = Callable[[Tensor], Activation]


class RegressorConfig(BaseModel):
    """Architecture and training of a regressor.

    Args:
        hidden: channels of the convolutional part.
        blocks: its residual blocks, of two convolutions each.
        kernel: side of its kernels.
        skip_kernel: side of the linear part's kernels.
        most_channels: of activations with more channels the linear part sees so many principal components.
        flat_channels: channels of the coarse grid that a flat activation is spread over.
        flat_grid: side of that grid.
        hu_mean: HU that become 0 inside.
        hu_scale: HU that become 1 inside.
        stages: of the descent, at most; none leaves it to the network alone.
        condition_stages: how many of them make the estimate whose code is the condition of a flow.
        stage_kernel: side of their kernels.
        stage_batches: training batches that they are solved on, and held-out batches that say how many of them to keep.
        steps: optimiser steps of the network, which is trained where the descent does not get far.
        doublings: how often they are doubled at most, as long as the last doubling took more than 5 % and 0.1 HU off the RMSE of
            held-out patches; 0 leaves it out, and then it is no part of what is written down.
        batch: patches in a step; whoever draws them reads it here. Many steps with few patches get further in the same time.
        patch: side of the patches, pixels; likewise.
        lr: highest rate of Adam; a short warm-up, then a cosine to 0, over each half of the steps.
        warmup: steps of the warm-up.
        betas: of Adam.
        clip_norm: largest norm of the gradient, where the loss has the linear part's RMSE for a unit. Few patches with bone
            and air in them have gradients that are many times the median.
        calibration: batches that standardisation and the linear part are fitted to before the first step.
        held_out: held-out batches in an evaluation.
        bf16: train the convolutional part in bfloat16 where that is measured to be faster.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: int = Field(default=24, gt=0)
    blocks: int = Field(default=4, ge=0)
    kernel: int = Field(default=3, gt=0)
    skip_kernel: int = Field(default=5, gt=0)
    most_channels: int = Field(default=64, gt=0)
    flat_channels: int = Field(default=16, gt=0)
    flat_grid: int = Field(default=8, gt=0)
    hu_mean: float = -400.0
    hu_scale: float = Field(default=400.0, gt=0)
    stages: int = Field(default=24, ge=0)
    condition_stages: int = Field(default=2, ge=0)
    stage_kernel: int = Field(default=3, gt=0)
    stage_batches: int = Field(default=32, ge=4)
    steps: int = Field(default=3200, gt=0)
    doublings: int = Field(default=0, ge=0, le=16)
    batch: int = Field(default=4, gt=0)
    patch: int = Field(default=64, gt=0)
    lr: float = Field(default=3e-3, gt=0)
    warmup: int = Field(default=100, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = Field(default=0.1, gt=0)
    calibration: int = Field(default=8, gt=0)
    held_out: int = Field(default=32, gt=0)
    bf16: bool = True

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave doublings out where there are none, so that a regressor without them is what it was before."""
        found: dict[str, Any] = handler(self)
        if self.doublings == 0:
            found.pop("doublings", None)
        return found


class Regressor(nn.Module):
    """g: an activation z, one tensor or several, to an image x_hat in HU.

    All tensors are standardised per channel and brought to one grid: that of the largest of them if the image is
    an integer multiple of it, so that convolutions work where z lives and pixels are unfolded at the end, else
    the image's own (bilinear). Flat tensors pass a linear layer to a coarse grid first. On the grid, a linear
    convolution and a small convolutional network that starts at zero are added. The linear part is solved, not trained
    (`calibrate`): neighbouring channels are so alike that steps of the network's size would spoil it. From there stages go on
    that ask Phi what is still wrong (`Stage`); they are solved, too (`descent.descend`), and where they get far the network
    is not trained at all.

    For `input`, where z is x itself, nothing is different.

    Args:
        z: an activation; only its shapes count. A tensor of shape `(B, C, h, w)` is spatial, any other is flat.
        size: height and width of the image that it belongs to.
        config: sizes.
        seed: of the initial parameters.

    Raises:
        DenoiserError: the activation holds no numbers.
    """

    def __init__(
        self, z: Activation, size: tuple[int, int], config: RegressorConfig | None = None, *, seed: int = 0
    ):
        super().__init__()
        config = config or RegressorConfig()
        self.config = config
        self.size = (int(size[0]), int(size[1]))
        self.shapes = tuple(tuple(tensor.shape[1:]) for tensor in _parts(z))
        if not self.shapes or any(math.prod(shape) == 0 for shape in self.shapes):
            raise DenoiserError(
                f"an activation of the shapes {self.shapes} holds no numbers; choose another layer"
            )
        spatial = [len(shape) == 3 and min(shape[1:]) > 1 for shape in self.shapes]
        coarse = (config.flat_grid, config.flat_grid)
        largest = max(
            (i for i, on in enumerate(spatial) if on),
            key=lambda i: math.prod(self.shapes[i][1:]),
            default=None,
        )
        self.follow = largest
        grid = coarse if largest is None else (self.shapes[largest][1], self.shapes[largest][2])
        self.stride = _stride(self.size, grid)
        seeded(lambda: self._build(spatial, coarse), derive_seed(seed, "regressor", "parameters"))

    def _build(self, spatial: Sequence[bool], coarse: tuple[int, int]) -> None:
        config = self.config
        self.entries = nn.ModuleList(
            Entry(shape, not on, config.flat_channels, coarse)
            for shape, on in zip(self.shapes, spatial, strict=True)
        )
        channels = sum(entry.channels for entry in self._entries)
        fewer = min(channels, config.most_channels)
        self.reduce = nn.Conv2d(channels, fewer, 1, bias=False) if channels > fewer else None
        outputs = (self.stride or 1) ** 2
        side, wide = config.kernel, config.skip_kernel
        self.skip = nn.Conv2d(fewer, outputs, wide, padding=wide // 2)
        last = nn.Conv2d(config.hidden, outputs, side, padding=side // 2, bias=False)
        nn.init.zeros_(last.weight)
        self.net: nn.Sequential | None = nn.Sequential(
            nn.Conv2d(channels, config.hidden, side, padding=side // 2),
            *(Block(config.hidden, side) for _ in range(config.blocks)),
            nn.SiLU(),
            last,
        )
        for solved in (self.reduce, self.skip):
            if solved is not None:
                solved.requires_grad_(False)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.stages = nn.ModuleList()

    @property
    def condition_stages(self) -> int:
        """How many of the stages make the condition of a flow."""
        return self.config.condition_stages

    @property
    def _entries(self) -> list[Entry]:
        return [entry for entry in self.entries if isinstance(entry, Entry)]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors, and as JSON values what else is needed to build the regressor again."""
        meta = {
            "shapes": [list(shape) for shape in self.shapes],
            "size": list(self.size),
            "config": self.config.model_dump(mode="json"),
            "stages": len(self.stages),
            "network": self.net is not None,
        }
        return {name: tensor.detach().clone() for name, tensor in self.state_dict().items()}, meta

    @classmethod
    def from_state(cls, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> "Regressor":
        """Return the regressor that `state` took apart, in eval mode, without gradients on its parameters.

        Raises:
            ArtifactError: this version does not know the settings, or the tensors do not fit them.
        """
        try:
            z = tuple(torch.empty((1, *shape), device="meta") for shape in meta["shapes"])
            height, width = meta["size"]
            regressor = cls(z, (height, width), RegressorConfig.model_validate(meta["config"]))
            for _ in range(int(meta["stages"])):
                regressor.add_stage()
            if not meta["network"]:
                regressor.net = None
            regressor.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        except (KeyError, TypeError, ValueError, ValidationError, RuntimeError) as error:
            raise ArtifactError(f"the stored regressor cannot be read: {error}. Train it again") from None
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise ArtifactError("the stored regressor holds values that are not finite. Train it again")
        return regressor.eval().requires_grad_(False)

    def forward(
        self,
        z: Activation,
        size: tuple[int, int] | None = None,
        *,
        phi: Phi | None = None,
        stages: int | None = None,
    ) -> Tensor:
        """Return x_hat, `(B, 1, H, W)`, HU.

        Args:
            z: shapes as those of the example; spatial ones may be of another size.
            size: height and width of the image. By default the multiple of z's grid, or, where there is none,
                the size the regressor was built for.
            phi: Phi itself, from images `(B, 1, H, W)`, HU, to activations; stages need it.
            stages: how many of the stages to go; all by default. `condition_stages` make the condition of a flow.

        Raises:
            UsageError: another number of tensors or of channels, or a size or Phi that is needed and was not given.
        """
        chosen = self._stages[:stages]
        trace = self.begin(z, size)
        if not chosen:
            return self.image(trace.x)
        if phi is None:
            raise UsageError(
                f"this regressor compares z with Phi of its estimate {len(chosen)} times: pass phi"
            )
        for stage in chosen:
            self.ask(trace, phi)
            self.advance(trace, stage)
        return self.image(trace.x)

    def begin(self, z: Activation, size: tuple[int, int] | None = None) -> Trace:
        """Return the descent from an activation before its first stage; arguments are those of `forward`."""
        h = self._standard(z, size)
        features = self._reduced(h)
        x: Tensor = self.skip(features)
        if self.net is not None:
            with mixed_precision(h.device, self.training):
                correction: Tensor = self.net(h.contiguous(memory_format=torch.channels_last))
            x = x + correction.float()
        return Trace(features, x, size)

    def ask(self, trace: Trace, phi: Phi) -> None:
        """Let a descent see what Phi of its estimate still lacks of z."""
        # In place, for these are the largest tensors of all.
        trace.residual = self.features(phi(self.image(trace.x)), trace.size).neg_().add_(trace.features)

    def advance(self, trace: Trace, stage: Stage) -> None:
        """Take the step of a stage after `ask`, within the range that HU have."""
        low, high = ((hu - self.config.hu_mean) / self.config.hu_scale for hu in HU_RANGE)
        after = (trace.x + stage(trace)).clamp(low, high)
        trace.steps.append(after - trace.x)
        trace.x = after

    def image(self, x: Tensor) -> Tensor:
        """Return the image `(B, 1, H, W)`, HU, that `(B, s^2, h, w)` on the grid and in inner units stands for."""
        if self.stride is not None:
            x = functional.pixel_shuffle(x, self.stride)
        return x.contiguous() * self.config.hu_scale + self.config.hu_mean

    def inner(self, image: Tensor) -> Tensor:
        """Return what `image` makes an image of."""
        units = (image - self.config.hu_mean) / self.config.hu_scale
        x: Tensor = functional.pixel_unshuffle(units, self.stride or 1)
        return x

    def add_stage(self) -> Stage:
        """Return a new last stage, whose step is nothing."""
        channels, outputs = self.skip.weight.shape[1], self.skip.weight.shape[0]
        stage = Stage(channels, outputs, min(len(self.stages), MEMORY), self.config.stage_kernel)
        for parameter in stage.parameters():
            nn.init.zeros_(parameter)
        self.stages.append(stage.to(self.skip.weight.device))
        return stage

    def keep_stages(self, count: int) -> None:
        """Drop all stages after the first `count`."""
        self.stages = self.stages[:count]

    def features(self, z: Activation, size: tuple[int, int] | None = None) -> Tensor:
        """Return the standardised activation on the common grid, `(B, C, h, w)`, or the `most_channels` first components."""
        return self._reduced(self._standard(z, size))

    @property
    def _stages(self) -> list[Stage]:
        return [stage for stage in self.stages if isinstance(stage, Stage)]

    def _standard(self, z: Activation, size: tuple[int, int] | None) -> Tensor:
        parts = _parts(z)
        self._check(parts)
        grid = self._grid(parts, size)
        found = [entry(part, grid) for entry, part in zip(self._entries, parts, strict=True)]
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    def _reduced(self, h: Tensor) -> Tensor:
        if self.reduce is None:
            return h
        fewer: Tensor = self.reduce(h)
        return fewer

    @torch.no_grad()
    def calibrate(self, examples: Sequence[tuple[Activation, Tensor]], ridge: float = 1e-5) -> None:
        """Standardise on examples, and set the linear part to their ridge regression.

        Training then begins at the best linear map; for z = x that is the identity.

        Args:
            examples: activations and their images x, `(B, 1, H, W)`, HU.
            ridge: as a part of the mean power of a feature.
        """
        for index, entry in enumerate(self._entries):
            entry.observe([_parts(z)[index] for z, _ in examples])
        if self.reduce is not None:
            self.reduce.weight.copy_(self._components(examples)[..., None, None])
        moments = Moments(
            self.skip.weight.shape[1], len(self.skip.weight), self.config.skip_kernel, self.skip.weight.device
        )
        for z, x in examples:
            moments.add(self.features(z, (x.shape[-2], x.shape[-1])), self.inner(x))
        weight, bias = moments.kernel(moments.solve(ridge))
        self.skip.weight.copy_(weight)
        torch.as_tensor(self.skip.bias).copy_(bias)

    def _components(self, examples: Sequence[tuple[Activation, Tensor]]) -> Tensor:
        """Return the principal components of the channels, those that vary most first, `(most_channels, C)`."""
        standard = (self._standard(z, (x.shape[-2], x.shape[-1])) for z, x in examples)
        channels = (h.transpose(0, 1).flatten(1) for h in standard)
        gram = functools.reduce(torch.add, (in_float64(h @ h.T) for h in channels))
        vectors: Tensor = torch.linalg.eigh(gram).eigenvectors.flip(1)
        return vectors[:, : self.config.most_channels].T.float()

    def _check(self, parts: Sequence[Tensor]) -> None:
        found = tuple(tuple(part.shape[1:]) for part in parts)
        if len(found) == len(self.shapes) and all(
            shape == wanted if entry.flat else len(shape) == 3 and shape[0] == wanted[0]
            for shape, wanted, entry in zip(found, self.shapes, self._entries, strict=True)
        ):
            return
        raise UsageError(
            f"this regressor was built for activations of the shapes {self.shapes}, got {found}: "
            "build one for each layer"
        )

    def _grid(self, parts: Sequence[Tensor], size: tuple[int, int] | None) -> tuple[int, int]:
        """Return the grid to work on."""
        if self.follow is None:
            grid = (self.config.flat_grid, self.config.flat_grid)
        else:
            grid = (parts[self.follow].shape[-2], parts[self.follow].shape[-1])
        if self.stride is not None:
            if size is not None and (grid[0] * self.stride, grid[1] * self.stride) != tuple(size):
                raise UsageError(
                    f"an activation on a grid of {grid} gives images of {self.stride} times that, "
                    f"not of {tuple(size)}"
                )
            return grid
        if size is not None:
            return size
        if self.follow is not None and grid != tuple(self.shapes[self.follow][1:]):
            raise UsageError(
                f"a grid of {grid} does not tell the image's size, for {self.size} is no multiple of "
                f"{self.shapes[self.follow][1:]}: pass size=(H, W)"
            )
        return self.size


def _parts(z: Activation) -> tuple[Tensor, ...]:
    return (z,) if isinstance(z, Tensor) else tuple(z)


def _stride(size: tuple[int, int], grid: tuple[int, int]) -> int | None:
    """Return how often the grid goes into the image, or `None` if it does not."""
    stride = size[0] // grid[0]
    return stride if stride > 0 and (grid[0] * stride, grid[1] * stride) == size else None
