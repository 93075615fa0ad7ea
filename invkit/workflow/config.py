"""What one run does: the models that a TOML file of `invkit run` is checked against."""

__all__ = ["DenoiserConfig", "ImagesConfig", "RecipeConfig", "RunConfig", "TableConfig"]

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from invkit.data.patches import Domain
from invkit.data.slices import NoiseModel
from invkit.denoisers.recipe import Recipe
from invkit.errors import ConfigError
from invkit.flow.config import CinnConfig
from invkit.parts.config import LayerConfig
from invkit.regressor.regressor import RegressorConfig
from invkit.vae.vae import VaeConfig

CONTROLS = ("input", "const")
Text = Annotated[str, Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AdversarialConfig(_Section):
    """Changes to a recipe's critic terms; see `invkit.Adversarial`."""

    weight: float | None = Field(None, ge=0)
    gradient_penalty: float | None = Field(None, ge=0)
    critic_steps: int | None = Field(None, gt=0)
    lr: float | None = Field(None, gt=0)


class PerceptualConfig(_Section):
    """Changes to a recipe's perceptual term; see `invkit.Perceptual`."""

    weight: float | None = Field(None, ge=0)
    backbone: Text | None = None


class RecipeConfig(_Section):
    """Changes to a denoiser's training recipe: first its preset, then single fields; see `invkit.Recipe`.

    Args:
        preset: one of the recipe's own.
        without: terms of the loss to leave out.
    """

    preset: str = "default"
    without: tuple[Literal["adversarial", "perceptual"], ...] = ()
    patch: int | None = Field(None, gt=0)
    batch: int | None = Field(None, gt=0)
    steps: int | None = Field(None, gt=0)
    lr: float | None = Field(None, gt=0)
    betas: tuple[float, float] | None = None
    lr_end: float | None = Field(None, ge=0)
    mse: float | None = Field(None, ge=0)
    mse_steps: int | None = Field(None, ge=0)
    adversarial: AdversarialConfig | None = None
    perceptual: PerceptualConfig | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """The changes after the preset, as `Recipe.changed` takes them."""
        stated = self.model_dump(exclude_none=True, exclude={"preset", "without"})
        return {**stated, **dict.fromkeys(self.without)}

    def applied(self, recipe: Recipe, *, model: str) -> Recipe:
        """Return a recipe with these changes.

        Raises:
            ConfigError: the recipe has no such preset, or lacks a term whose fields are to change.
        """
        where = f"denoisers.{model}.recipe"
        try:
            base = recipe.preset(self.preset)
        except ConfigError as error:
            raise ConfigError(f"{where}.preset: {error}") from None
        for term in ("adversarial", "perceptual"):
            if getattr(self, term) is not None and (term in self.without or getattr(base, term) is None):
                raise ConfigError(
                    f"{where}.{term} changes a term that this recipe does not have; "
                    "remove it here, or use another preset"
                )
        return base.changed(self.changes)


class DenoiserConfig(_Section):
    """One denoiser: how it is trained, and at which layers it is analysed.

    Args:
        layers: layers as `invkit.analyze` takes them; the controls `input` and `const` are always added.
        recipe: changes to the plugin's recipe.
        allow_bypass: no longer needed, and without effect: any layer is analysed.
    """

    layers: tuple[Text, ...] = Field(min_length=1)
    recipe: RecipeConfig = RecipeConfig()
    allow_bypass: bool = False

    @model_validator(mode="after")
    def _layers_differ(self) -> Self:
        twice = sorted({layer for layer in self.layers if self.layers.count(layer) > 1})
        controls = [layer for layer in self.layers if layer in CONTROLS]
        if twice or controls:
            raise ValueError(
                f"layer {(twice or controls)[0]!r} must not be listed "
                + ("twice" if twice else "because it is a control, and these are always included")
            )
        return self


class ImagesConfig(_Section):
    """The test images: patches of held-out patients, in low dose and high dose.

    Args:
        count: how many.
        size: side, pixels.
    """

    count: int = Field(8, gt=0)
    size: int = Field(128, ge=16, le=1024)


class TableConfig(_Section):
    """How many patches stand behind a cINN; see `LayerConfig`."""

    rows: int = Field(12_000, ge=2)
    fewer_rows: int = Field(3_072, ge=2)
    fewer_steps: int = Field(400, gt=0)
    validation: int = Field(256, ge=2)
    held_out: int = Field(768, ge=2)
    regressed: int = Field(256, ge=1)
    pairs: int = Field(512, ge=1)


class RunConfig(_Section):
    """The five steps of the slides (Eulig, Ommer, Kachelriess) with all their sizes.

    Args:
        data: what everything is trained on, as `--train-data` takes it.
        denoisers: by name, in the order of training.
        seed: decides every random number.
        dose: of the low-dose images, as a fraction of the slices' own.
        noise: how low dose is simulated: `"physical"`, in the projection domain, or `"image"`, stationary noise.
        samples: N, draws for each test image.
        refine: how many of them are refined onto the layer's fiber and certified.
        domains: which images are sampled: `"low"` dose, their `"high"` dose partners, or both.
        images: the test images.
        vae: the VAE-WGAN of each domain.
        regressor: g of each layer, from z to an image.
        cinn: t of each layer.
        table: the codes t is trained on.
    """

    data: tuple[Text, ...] = Field(min_length=1)
    denoisers: dict[str, DenoiserConfig] = Field(min_length=1)
    seed: int = Field(0, ge=0)
    dose: float = Field(0.25, gt=0, lt=1)
    noise: NoiseModel = "physical"
    samples: int = Field(250, ge=2)
    refine: int = Field(16, ge=0)
    domains: tuple[Domain, ...] = Field(("low", "high"), min_length=1, max_length=2)
    images: ImagesConfig = ImagesConfig()
    vae: VaeConfig = VaeConfig()
    regressor: RegressorConfig = RegressorConfig()
    cinn: CinnConfig = CinnConfig()
    table: TableConfig = TableConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.cinn.d != self.vae.d:
            raise ValueError(f"cinn.d must be vae.d, the length of a code: {self.vae.d}, got {self.cinn.d}")
        if len(set(self.domains)) < len(self.domains):
            raise ValueError(f"domains names {self.domains[0]!r} twice")
        return self

    @property
    def layer(self) -> LayerConfig:
        """Settings of everything that is trained for one layer."""
        table = self.table.model_dump()
        return LayerConfig(regressor=self.regressor, cinn=self.cinn, dose=self.dose, **table)
