"""Settings of everything that is trained for one layer: regressor, table of codes, cINN."""

__all__ = ["LayerConfig"]

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from invkit.data.partition import Part
from invkit.flow.config import PRESETS as FLOW_PRESETS
from invkit.flow.config import CinnConfig
from invkit.parts.preset_file import SHIPPED, checked, is_file, preset_values, unknown
from invkit.regressor.regressor import RegressorConfig
from invkit.samplers.conditional.code import ConditionalConfig
from invkit.samplers.spatial.code import SpatialConfig
from invkit.samplers.wavelet.config import WaveletConfig


class LayerConfig(BaseModel):
    """What decides how a layer's cINN comes out, besides the layer, the data and the seed.

    Args:
        regressor: g, from z to an image.
        cinn: t and its training.
        wavelet: the flow of `representation="wavelet"`, which takes the place of codes and cINN; no part of what decides a cINN.
        spatial: the VAE of `representation="spatial"`; like all of that name no part of what decides a cINN.
        spatial_flow: the flow of its codes; as many channels as these have.
        spatial_rows: patches whose spatial codes that flow is trained on.
        conditional: the VAE of `representation="conditional"`, which is given f(x); no part of what decides any other cINN.
        rows: patches whose codes t is trained on.
        fewer_rows: as many do where z tells nearly all of the code, so that there is next to nothing to learn.
        fewer_steps: of the training of t, likewise.
        validation: patches that decide when training stops.
        held_out: others, for the figures.
        regressed: patches, of the size that g is fitted on, that all its stages are judged on; `held_out` at most.
        pairs: pairs of patches behind the layer's scale s_Phi.
        dose: of the low-dose images, as a fraction of the slices' own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    regressor: RegressorConfig = RegressorConfig()
    cinn: CinnConfig = CinnConfig()
    # Excluded from what is written down, so that it changes no key of a cINN.
    wavelet: WaveletConfig = Field(WaveletConfig(), exclude=True)
    spatial: SpatialConfig = Field(SpatialConfig(), exclude=True)
    spatial_flow: WaveletConfig = Field(WaveletConfig.of_codes(), exclude=True)
    spatial_rows: int = Field(3_072, ge=2, exclude=True)
    conditional: ConditionalConfig = Field(ConditionalConfig(), exclude=True)
    rows: int = Field(12_000, ge=2)
    fewer_rows: int = Field(3_072, ge=2)
    fewer_steps: int = Field(400, gt=0)
    validation: int = Field(256, ge=2)
    held_out: int = Field(768, ge=2)
    regressed: int = Field(256, ge=1)
    pairs: int = Field(512, ge=1)
    dose: float = Field(0.25, gt=0, le=1)

    @property
    def parts(self) -> dict[Part, int]:
        """Patches whose codes are drawn, by part of the split."""
        return {"train": self.rows, "validation": self.validation, "test": self.held_out}

    def where_known(self) -> Self:
        """Return the settings where z tells nearly all of the code."""
        steps = min(self.cinn.steps, self.fewer_steps)
        return self.model_copy(
            update={
                "rows": min(self.rows, self.fewer_rows),
                "cinn": self.cinn.model_copy(update={"steps": steps}),
            }
        )

    @classmethod
    def preset(cls, name: str) -> Self:
        """Return a preset: a shipped file by its name, `tiny` (for trying out), `eulig`, or a TOML file by its path.

        `eulig` has the published flow of `ldct-benchmark`, and the rest as in `default`.

        Raises:
            ConfigError: there is no such preset or file, or a field in it is wrong.
        """
        if name == "tiny":
            return cls(
                regressor=RegressorConfig(
                    blocks=2, stages=2, condition_stages=2, stage_batches=4, steps=20, batch=8, held_out=4
                ),
                cinn=CinnConfig(d=16, blocks=2, hidden=32, steps=60, evaluate_every=30, batch=32),
                wavelet=WaveletConfig.tiny(),
                spatial=SpatialConfig.tiny(),
                spatial_flow=WaveletConfig.tiny().model_copy(
                    update={"levels": 1, "squeeze": False, "dequantisation": 0.0, "held_out": 32}
                ),
                spatial_rows=64,
                conditional=ConditionalConfig.tiny(),
                rows=128,
                validation=64,
                held_out=64,
                pairs=16,
            )
        if is_file(name) or name in SHIPPED:
            return checked(cls, preset_values("cinn", name), name)
        if name not in FLOW_PRESETS:
            raise unknown("a cINN", name, [*SHIPPED, "tiny", *FLOW_PRESETS])
        cinn = CinnConfig.model_validate(FLOW_PRESETS[name])
        return cls(cinn=cinn, fewer_steps=cinn.steps)
