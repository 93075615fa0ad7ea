"""The verb the product is known by: what does this layer of this denoiser ignore?"""

__all__ = ["analyze"]

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from invkit.analysis.runs import AnalysisResult
from invkit.analysis.specs import (
    ControlSet,
    ImageSpec,
    Refine,
    Runtime,
    SamplingSpec,
    StructureSet,
    TrainingSpec,
)
from invkit.analysis.subject import Data
from invkit.analysis.whole import Analysis
from invkit.data.patches import Domain
from invkit.data.slices import NoiseModel
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.denoisers.spec import Denoiser
from invkit.images.box import BoxSpec
from invkit.images.region import RegionSpec
from invkit.parts.config import LayerConfig
from invkit.plugins.gather import DataSpecs
from invkit.plugins.load import load
from invkit.plugins.manager import PluginHost
from invkit.training.progress import Progress


def analyze(
    model: str | Denoiser | LoadedDenoiser | nn.Module = "yang2018",
    layer: str | Sequence[str] | None = None,
    data: Data = None,
    *,
    samples: int = 250,
    refine: Refine = 16,
    controls: ControlSet = "standard",
    domain: Domain = "low",
    sampler: str = "vae",
    structures: StructureSet = "discs",
    seed: int = 0,
    dose: float | None = None,
    hu_range: tuple[float, float] | None = None,
    spacing: float | None = None,
    region: RegionSpec = None,
    noise_scans: Data = None,
    structure: BoxSpec = None,
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
    """Measure what a layer of a denoiser does not tell apart, and sample the published model of it.

    What needs no trained model comes first: certified images, structures, noise. For the model, bundled or cached parts are used
    where their provenance matches; missing parts are trained.

    Args:
        model: name of a denoiser, its description, or any `nn.Module` that maps `(B, 1, H, W)` to the same shape.
        layer: a layer as `invkit.Split` names it, `"a+b"` for a set of layers, `"input"`, `"const"` or `"output"`; several
            are given as a list. `"all"` stands for every layer that the plugin names, `None` for the denoiser's default, which is
            `"output"` unless its plugin names another.
        data: a path, an array or tensor in HU, or `None` for a CT slice that is available everywhere.
        samples: N, samples of the model for each image; at least 2.
        refine: how many images that the layer cannot tell from x are drawn and certified for each image: a number up to N, `"all"`
            or `"none"`.
        controls: `"standard"` measures what hides from the layer with random weights; `"full"` also trains a model for it. All
            other controls always run.
        domain: `"low"` samples low-dose images, `"high"` their high-dose partners given the same z.
        sampler: `"vae"`, with the published model, a cINN on flat codes of a VAE-WGAN; `"training-free"`, without any model; or a
            sampler from a plugin in its place.
        structures: what is put into the image: `"discs"` of four sizes, of one contrast in its commonest tissue; `"full"` also
            edges, line pairs and textures, contrasts from 3 to 100 HU, and soft tissue, lung and bone.
        seed: for the noise of a simulated dose and all draws.
        dose: reduce the dose of `data` to this fraction by simulation; by default it is assumed to be low dose.
        hu_range: HU of the smallest and largest value of a PNG or TIFF.
        spacing: pixel spacing, mm, for sizes in mm; by default as stated in DICOM.
        region: where spreads are measured and what figures show: `"x,y,w,h"`, four numbers, or a mask of the
            image's size, an array or a path. Phi sees the whole image, and distances of activations and outputs are over
            the whole image.
        noise_scans: scans whose noise is that of the image: a folder with one folder or `.npy` file for each repeat scan, or a
            folder, file or array of slices that all show the same, as of a uniform phantom. By default the noise is simulated at
            the image's own dose.
        structure: a rectangle around a structure, with a rim of its surroundings: `"x,y,w,h"` or four numbers, column and row of
            the upper left pixel, width and height. It is found out how weak it is in images that the layer cannot tell from x.
        train_data: what missing parts are trained on: paths to CT, or `None` for the built-in phantoms.
        train_noise: how low dose is simulated for training: `"physical"`, in the projection domain, or `"image"`,
            stationary noise.
        train_seed: for all random numbers of trainings.
        config: model sizes and training steps for a layer.
        vae_preset: preset of a VAE that has to be trained.
        allow_bypass: no longer needed, and without effect: any layer is analysed.
        device: where to compute.
        memory: memory limit of the process, in bytes or such as `"1.5G"`; by default what the machine has. The memory
            needed is stated before anything is sampled; if it exceeds the limit, the analysis is refused.
        cache: folder for trained parts; by default the user's cache.
        host: the plugins.
        progress: called as a training proceeds.
        say: called with one line for each step.

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
    image = ImageSpec(data, dose, hu_range, spacing, region, noise_scans, structure)
    sampling = SamplingSpec(sampler, samples, refine, controls, domain, seed, structures)
    training = TrainingSpec(train_data, train_noise, train_seed, config or LayerConfig(), vae_preset, cache)
    runtime = Runtime.of(host, say, device=device, memory=memory, progress=progress)
    denoiser = load(model, device=runtime.device, host=runtime.host)
    return Analysis(denoiser, layer, image, sampling, training, runtime).whole()
