"""The verb the product is known by: what does this layer of this denoiser ignore?"""

__all__ = ["analyze"]

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from invkit.analysis.result import AnalysisResult
from invkit.analysis.specs import ControlSet, ImageSpec, Refine, Runtime, SamplingSpec, TrainingSpec
from invkit.analysis.subject import Data
from invkit.analysis.whole import Analysis
from invkit.data.patches import Domain
from invkit.data.slices import NoiseModel
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.denoisers.spec import Denoiser
from invkit.images.region import RegionSpec
from invkit.parts.config import LayerConfig
from invkit.plugins.gather import DataSpecs
from invkit.plugins.load import load
from invkit.plugins.manager import PluginHost
from invkit.training.progress import Progress


def analyze(
    model: str | Denoiser | LoadedDenoiser | nn.Module = "yang2018",
    layer: str | Sequence[str] = "3",
    data: Data = None,
    *,
    samples: int = 250,
    refine: Refine = 16,
    controls: ControlSet = "standard",
    domain: Domain = "low",
    sampler: str = "vae",
    seed: int = 0,
    dose: float | None = None,
    hu_range: tuple[float, float] | None = None,
    spacing: float | None = None,
    region: RegionSpec = None,
    train_data: DataSpecs = None,
    train_noise: NoiseModel = "physical",
    train_seed: int = 0,
    config: LayerConfig | None = None,
    vae_preset: str = "default",
    allow_bypass: bool = False,
    device: str = "cpu",
    memory: str | float | None = None,
    cache: str | Path | None = None,
    host: PluginHost | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> AnalysisResult:
    """Sample images that a layer of a denoiser cannot tell apart by this model, and measure how far that holds.

    What is needed and exists, bundled or in the cache, is used where its provenance matches; what is missing is trained.

    Args:
        model: name of a denoiser, its description, or any `nn.Module` that maps `(B, 1, H, W)` to the same shape.
        layer: key or module name of a layer, `"a,b"` for a set of layers, `"input"`, `"const"` or `"output"`; several
            are given as a list. `"all"` stands for every layer that the plugin names.
        data: a path, an array or tensor in HU, or `None` for a CT slice that is at hand everywhere.
        samples: N, draws for each image; at least 2.
        refine: how many of them are refined onto the layer's fiber and certified: a number, `"all"` or `"none"`.
        controls: `"standard"` refines samples for the layer with random weights; `"full"` trains a model for it, too. All
            other controls always run.
        domain: `"low"` samples low-dose images, `"high"` their high-dose partners given the same z.
        sampler: what draws them, by its name: `"vae"`, the published method, a cINN on flat codes of a VAE-WGAN; `"training-free"`,
            f(x) plus noise with the spectrum of x - f(x), which says nothing before it is refined and needs no trained part; or
            that of a plugin.
        seed: decides the noise of a simulated dose and every draw.
        dose: reduce the dose of `data` to this fraction by simulation; by default it is taken for low dose as it is.
        hu_range: HU of the smallest and largest value of a PNG or TIFF.
        spacing: distance of the pixels' centres, mm, for sizes in mm; by default what DICOM states.
        region: the pixels that spreads are measured on and figures show: `"x,y,w,h"`, four numbers, or a mask of the
            image's size, an array or a path. Phi sees the whole image, and distances of activations and outputs are the
            whole image's.
        train_data: what missing parts are trained on: paths to CT, or `None` for the built-in phantoms.
        train_noise: how low dose is made for it: `"physical"`, simulated on the rays of a scanner, or `"image"`,
            stationary noise.
        train_seed: decides every random number of what has to be trained.
        config: sizes and steps of what is trained for a layer.
        vae_preset: size and steps of a VAE that has to be trained.
        allow_bypass: accept a layer that a skip connection goes round; the result says so.
        device: where to compute.
        memory: most that the process may take, in bytes or such as `"1.5G"`; by default what the machine has. What the
            analysis takes is said before anything is sampled, and refused where it is more.
        cache: folder for trained parts; by default the user's cache.
        host: the plugins.
        progress: called as a training goes on.
        say: called with one line for each thing done.

    Raises:
        InvkitError: the input, the layer or a plugin cannot be used; the message says why and what to do.

    Example:
        >>> import invkit
        >>> result = invkit.analyze("yang2018", layer="3", samples=4)
        >>> result.samples.shape
        torch.Size([4, 1, 1, 128, 128])
        >>> result.raw_std.shape
        torch.Size([1, 1, 128, 128])
    """
    image = ImageSpec(data, dose, hu_range, spacing, region)
    sampling = SamplingSpec(sampler, samples, refine, controls, domain, seed, allow_bypass)
    training = TrainingSpec(train_data, train_noise, train_seed, config or LayerConfig(), vae_preset, cache)
    runtime = Runtime.of(host, say, device=device, memory=memory, progress=progress)
    denoiser = load(model, device=runtime.device, host=runtime.host)
    return Analysis(denoiser, layer, image, sampling, training, runtime).whole()
