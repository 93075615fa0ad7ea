"""What is asked of an analysis, in four parts; each is checked once, with one wording for Python and the command line."""

__all__ = ["ImageSpec", "Runtime", "SamplingSpec", "StructureSet", "TrainingSpec", "specs_of"]

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, Self, get_args

from invkit.analysis.memory import parse_memory
from invkit.analysis.subject import Data, Subject, choose_subject
from invkit.data.patches import Domain
from invkit.data.slices import NoiseModel, SliceSet
from invkit.errors import ImageError, UsageError, require_choice
from invkit.images.box import BoxSpec, choose_box
from invkit.images.region import RegionSpec, choose_region
from invkit.noise.scans import NoiseScans, read_noise_scans
from invkit.parts.config import LayerConfig
from invkit.parts.preset_file import vae_preset as chosen_vae
from invkit.parts.store import Store
from invkit.parts.workshop import Workshop, silent
from invkit.plugins.gather import DataSpecs, gather
from invkit.plugins.manager import PluginHost, default_host
from invkit.training.device import usable_device
from invkit.training.progress import Progress
from invkit.vae.vae import VaeConfig

Refine = int | Literal["all", "none"]
ControlSet = Literal["standard", "full"]
StructureSet = Literal["discs", "full"]


@dataclass(frozen=True)
class ImageSpec:
    """Which image is analysed.

    Args:
        data: a path, an array or tensor in HU, what was read before, or `None` for a CT slice that is available everywhere; or
            a subject, which is taken as it is.
        dose: reduce its dose to this fraction by simulation; by default it is taken for low dose as it is.
        hu_range: HU of the smallest and largest value of a PNG or TIFF: two numbers, or a text such as `"-1024,3071"`.
        spacing: distance of the pixels' centres, mm; by default what DICOM states.
        region: the pixels that spreads are measured on and figures show; see `choose_region`.
        noise_scans: repeat scans or a phantom whose noise is that of the image, read here unless they are already; by default the
            noise is simulated.
        structure: a rectangle with a structure of which it is asked whether it is real; see `choose_box`.

    Raises:
        UsageError: the spacing or the range is none.
        ImageError: a range is given for what is in HU already.
        InputError: the scans tell of no noise.
    """

    data: Data | Subject = None
    dose: float | None = None
    hu_range: tuple[float, float] | str | None = None
    spacing: float | None = None
    region: RegionSpec = None
    noise_scans: Data | NoiseScans = None
    structure: BoxSpec = None

    def __post_init__(self) -> None:
        if isinstance(self.hu_range, str):
            object.__setattr__(self, "hu_range", _range(self.hu_range))
        if self.hu_range is not None and not isinstance(self.data, str | Path):
            raise ImageError(
                "an HU range applies to PNG and TIFF files only; arrays and the default image are already in HU"
            )
        if self.spacing is not None and not 0 < self.spacing < math.inf:
            raise UsageError(f"the pixel spacing must be a length in mm above 0, got {self.spacing}")
        if self.noise_scans is not None and not isinstance(self.noise_scans, NoiseScans):
            object.__setattr__(self, "noise_scans", read_noise_scans(self.noise_scans))

    def subject(self, seed: int, device: str) -> Subject:
        """Return the image on a device; it is read here.

        Raises:
            ImageError: the data are no usable image.
            UsageError: the dose is not in (0, 1], region or structure are none of this image, or a structure is marked in several.
            InputError: the scans of noise have pixels of another size.
        """
        assert self.noise_scans is None or isinstance(self.noise_scans, NoiseScans)
        if isinstance(self.data, Subject):
            return replace(self.data, x=self.data.x.to(device), noise_scans=self.noise_scans)
        assert not isinstance(self.hu_range, str)
        subject = choose_subject(
            self.data, seed=seed, dose=self.dose, hu_range=self.hu_range, spacing=self.spacing
        )
        size = (subject.x.shape[-2], subject.x.shape[-1])
        region, structure = choose_region(self.region, size), choose_box(self.structure, size)
        if structure is not None and len(subject.x) > 1:
            raise UsageError(
                f"a structure is marked in one image, and these are {len(subject.x)}: give that image alone"
            )
        if self.noise_scans is not None:
            self.noise_scans.check(subject.spacing)
        subject = replace(
            subject, x=subject.x.to(device), region=region, noise_scans=self.noise_scans, structure=structure
        )
        if region is None:
            return subject
        return replace(
            subject, description=f"{subject.description}; spreads are those of {region.description}"
        )


@dataclass(frozen=True)
class SamplingSpec:
    """How images that a layer cannot tell apart are drawn, refined and compared.

    Args:
        sampler: name of what draws them.
        samples: N, samples of the model for each image; at least 2.
        refine: how many images that the layer cannot tell from x are drawn and certified: a number, `"all"` or `"none"`.
        controls: `"standard"` measures what hides from the layer with random weights; `"full"` trains a model for it, too.
        domain: `"low"` samples low-dose images, `"high"` their high-dose partners given the same z.
        seed: decides the noise of a simulated dose and every draw; an integer.
        structures: `"discs"` puts discs of four sizes into the image, of one contrast in its commonest tissue; `"full"` all
            kinds of structures, contrasts and tissues.

    Raises:
        UsageError: one of them is not what it can be.
    """

    sampler: str = "vae"
    samples: int = 250
    refine: Refine | str = 16
    controls: ControlSet = "standard"
    domain: Domain = "low"
    seed: int = 0
    structures: StructureSet = "discs"

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", _whole("samples", self.samples))
        object.__setattr__(self, "seed", _whole("seed", self.seed))
        if self.samples < 2:
            raise UsageError(f"a spread needs at least 2 samples, got {self.samples}")
        count = (
            {"all": self.samples, "none": 0}.get(self.refine, self.refine)
            if isinstance(self.refine, str)
            else self.refine
        )
        if isinstance(count, str) and count.isdecimal():
            count = int(count)
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise UsageError(f"refine must be a number of samples, all or none, got {self.refine!r}")
        object.__setattr__(self, "refine", count)
        require_choice("controls", self.controls, get_args(ControlSet))
        require_choice("domain", self.domain, get_args(Domain))
        require_choice("structures", self.structures, get_args(StructureSet))

    @property
    def refined(self) -> int:
        """How many draws of the posterior each image has."""
        assert isinstance(self.refine, int)
        return min(self.refine, self.samples)


@dataclass(frozen=True)
class TrainingSpec:
    """How what is missing is trained.

    Args:
        data: paths to CT, or `None` for the built-in phantoms.
        noise: how low dose is simulated for it: `"physical"`, in the projection domain, or `"image"`, stationary noise.
        seed: decides every random number of what has to be trained; an integer.
        config: sizes and steps of what is trained for a layer.
        vae_preset: size and steps of a VAE that has to be trained, by name or as they are.
        cache: folder for trained parts; by default the user's cache.

    Raises:
        UsageError: there is no such noise, or the seed is no integer.
        ConfigError: there is no such preset or file, or a field in it is wrong.
    """

    data: DataSpecs = None
    noise: NoiseModel = "physical"
    seed: int = 0
    config: LayerConfig = field(default_factory=LayerConfig)
    vae_preset: str | VaeConfig = "default"
    cache: str | Path | None = None

    def __post_init__(self) -> None:
        require_choice("noise", self.noise, get_args(NoiseModel))
        object.__setattr__(self, "seed", _whole("train_seed", self.seed))
        chosen_vae(self.vae_preset)  # read again when it is needed; refused here, before anything is made

    def workshop(self, runtime: "Runtime") -> Workshop:
        """Return where trained parts come from; training data are gathered here."""
        store = Store(runtime.host, None if self.cache is None else Path(self.cache))
        slices: SliceSet = gather(self.data, runtime.host, self.seed, self.noise, store.root)
        return Workshop(
            store=store,
            slices=slices,
            bundled=self.data is None and self.noise == "physical",
            config=self.config,
            vae_preset=self.vae_preset,
            seed=self.seed,
            device=runtime.device,
            progress=runtime.progress,
            say=runtime.say,
        )


@dataclass(frozen=True)
class Runtime:
    """Where an analysis runs, and whom it tells.

    Args:
        device: where to compute.
        memory: most that the process may take, in bytes or such as `"1.5G"`; by default what the machine has.
        host: the plugins.
        progress: called as a training goes on.
        say: called with one line for each thing done.

    Raises:
        UsageError: there is no such device, or the memory is no amount.
    """

    device: str = "cpu"
    memory: str | float | None = None
    host: PluginHost = field(default_factory=default_host)
    progress: Progress | None = None
    say: Callable[[str], None] = silent

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", usable_device(self.device))
        parse_memory(self.memory)

    @cached_property
    def limit(self) -> int | None:
        """The memory in bytes."""
        return parse_memory(self.memory)

    @classmethod
    def of(cls, host: PluginHost | None, say: Callable[[str], None] | None, **others: object) -> Self:
        """Return a runtime with the process's own plugins and silence where none are given."""
        return cls(host=host or default_host(), say=say or silent, **others)  # type: ignore[arg-type]


def specs_of(data: Data, options: Mapping[str, Any]) -> tuple[ImageSpec, SamplingSpec, TrainingSpec, Runtime]:
    """Return what `analyze` takes by name in four parts.

    Args:
        data: as for `analyze`.
        options: all that it takes besides model, layer and data.

    Raises:
        TypeError: it takes no such option.
    """
    left = {name: value for name, value in options.items() if name != "allow_bypass"}  # no longer needed

    def taken(*names: str, **renamed: str) -> dict[str, Any]:
        fields = {**{name: name for name in names}, **renamed}
        return {field: left.pop(name) for field, name in fields.items() if name in left}

    image = taken("dose", "hu_range", "spacing", "region", "noise_scans", "structure")
    sampling = taken("sampler", "samples", "refine", "controls", "domain", "seed", "structures")
    training = taken(
        "config", "vae_preset", "cache", data="train_data", noise="train_noise", seed="train_seed"
    )
    if training.get("config", ...) is None:
        del training["config"]
    runtime = taken("device", "memory", "progress", "host", "say")
    if left:
        raise TypeError(f"analyze takes no option {next(iter(left))!r}")
    place = Runtime.of(runtime.pop("host", None), runtime.pop("say", None), **runtime)
    return ImageSpec(data, **image), SamplingSpec(**sampling), TrainingSpec(**training), place


def _whole(what: str, value: object) -> int:
    """Return a whole number as a plain one, whichever library's type it has."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UsageError(f"{what} must be a whole number, got {value!r}")
    return int(value)


def _range(text: str) -> tuple[float, float]:
    """Return `"LOW,HIGH"` as two numbers."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"an HU range must be two numbers, such as -1024,3071; got {text!r}") from None
    return low, high
