"""Settings of everything that is trained for one layer: regressor, table of codes, cINN."""

__all__ = ["LayerConfig", "SamplerSettings"]

from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from invkit.data.partition import Part
from invkit.flow.config import CinnConfig
from invkit.parts.preset_file import checked, preset_values
from invkit.regressor.regressor import RegressorConfig


class SamplerSettings(BaseModel):
    """Settings of a sampler's own; `preset` knows `"default"`, and `"tiny"` for trying out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def preset(cls, name: str) -> Self:
        """Return the settings of a preset."""
        return cls.tiny() if name == "tiny" else cls()

    @classmethod
    def tiny(cls) -> Self:
        """Return sizes for trying out, seconds."""
        return cls()


Settings = TypeVar("Settings", bound=SamplerSettings)


class LayerConfig(BaseModel):
    """What determines a layer's cINN, besides the layer, the data and the seed.

    Args:
        regressor: g, from z to an image.
        cinn: t and its training.
        samplers: settings of other samplers by their names, each read by the sampler itself; no part of what decides a cINN.
        samplers_preset: what those settings change: `default` or `tiny`.
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
    samplers: dict[str, dict[str, Any]] = Field({}, exclude=True)
    samplers_preset: Literal["default", "tiny"] = Field("default", exclude=True)
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

    def settings(self, sampler: str, kind: type[Settings]) -> Settings:
        """Return a sampler's own settings.

        Args:
            sampler: its name.
            kind: the model that they are held against.

        Raises:
            ConfigError: a field in them is wrong.
        """
        start = kind.preset(self.samplers_preset)
        changes = self.samplers.get(sampler)
        return (
            checked(kind, _merged(start.model_dump(), changes), f"samplers.{sampler}") if changes else start
        )

    def where_known(self) -> Self:
        """Return the settings for layers whose z determines nearly all of the code."""
        steps = min(self.cinn.steps, self.fewer_steps)
        return self.model_copy(
            update={
                "rows": min(self.rows, self.fewer_rows),
                "cinn": self.cinn.model_copy(update={"steps": steps}),
            }
        )

    @classmethod
    def preset(cls, name: str) -> Self:
        """Return a preset: a shipped file by its name, or a TOML file by its path.

        Raises:
            ConfigError: there is no such preset or file, or a field in it is wrong.
        """
        return checked(cls, preset_values("cinn", name), name)


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return nested settings with what changes of them."""
    tables = {
        key: _merged(values[key], new) for key, new in changes.items() if isinstance(values.get(key), dict)
    }
    return {**values, **changes, **tables}
