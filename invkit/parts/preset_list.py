"""Which presets there are, and what each of them comes to."""

__all__ = ["preset_list", "preset_toml", "preset_used"]

from typing import Any

from invkit.denoisers.recipe import Recipe, packaged_text
from invkit.errors import UsageError
from invkit.parts.config import LayerConfig
from invkit.parts.preset_file import PRESETS, is_file, recipe_preset, shipped_text, toml_text, vae_preset
from invkit.plugins.manager import PluginHost

VAE, CINN = "vae", "cinn"


def preset_list(host: PluginHost) -> dict[str, list[str]]:
    """Return the names of all presets, by what they are for: each denoiser with a recipe, `vae`, `cinn`."""
    listed = {
        name: _unique("default", *spec.recipe.presets)
        for name, spec in host.denoisers().items()
        if spec.recipe is not None
    }
    return {
        **listed,
        VAE: list(PRESETS["vae"]),
        CINN: list(PRESETS["cinn"]),
    }


def preset_toml(host: PluginHost, what: str, name: str) -> str:
    """Return a preset as TOML: the shipped file with its comments where there is one, else all fields.

    Raises:
        UsageError: there is nothing to train of this name.
        ConfigError: there is no such preset or file, or a field in it is wrong.
    """
    source: object = None
    if what == VAE and not is_file(name):
        return shipped_text("vae", name)
    if what == CINN and not is_file(name):
        return shipped_text("cinn", name)
    if what not in (VAE, CINN):
        source = _recipe(host, what).presets.get(name)
    return packaged_text(source) if isinstance(source, str) else toml_text(preset_used(host, what, name))


def preset_used(host: PluginHost, what: str, name: str) -> dict[str, Any]:
    """Return every field of a preset, or of a user's file, with the value that a training would take.

    Raises:
        UsageError: there is nothing to train of this name.
        ConfigError: there is no such preset or file, or a field in it is wrong.
    """
    if what == VAE:
        return vae_preset(name).model_dump(mode="json")
    if what == CINN:
        config = LayerConfig.preset(name)
        stated = config.model_dump(mode="json", exclude={"cinn": {"bf16"}})  # nothing to set any more
        default = LayerConfig()
        for field in ("samplers", "samplers_preset"):
            if getattr(config, field) != getattr(default, field):
                stated[field] = getattr(config, field)
        # Plain fields first: TOML has them before its tables.
        return {key: stated[key] for key in sorted(stated, key=lambda key: isinstance(stated[key], dict))}
    described = recipe_preset(_recipe(host, what), name).describe()
    fields = {key: value for key, value in described.items() if value is not None}
    if "adversarial" in fields:
        # The plugin's own function, which a file cannot name.
        fields["adversarial"] = {
            key: value for key, value in fields["adversarial"].items() if key != "critic"
        }
    without = [part for part in ("adversarial", "perceptual") if part not in fields]
    missing = [part for part in without if getattr(_recipe(host, what), part) is not None]
    return {**({"without": missing} if missing else {}), **fields}


def _recipe(host: PluginHost, what: str) -> Recipe:
    spec, _ = host.denoiser(what)
    if spec.recipe is None:
        raise UsageError(f"{spec.name} has no training recipe: its plugin provides none")
    return spec.recipe


def _unique(*names: str) -> list[str]:
    return list(dict.fromkeys(names))
