"""Presets of what is trained: shipped TOML files with every figure, and a user's edited copies of them."""

__all__ = ["PRESETS", "preset_label", "preset_values", "recipe_preset", "toml_text", "vae_preset"]

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from invkit.denoisers.recipe import Recipe
from invkit.errors import ConfigError
from invkit.vae.vae import VaeConfig

Kind = Literal["vae", "cinn"]
Model = TypeVar("Model", bound=BaseModel)
PRESETS: dict[Kind, tuple[str, ...]] = {
    "vae": ("default", "paper", "ldct-benchmark", "tiny"),
    "cinn": ("default", "paper", "ldct-benchmark", "eulig", "tiny"),
}
FOLDER = files("invkit.parts").joinpath("presets")
NONE = "none"  # TOML has no null
SHOWN = 5


def vae_preset(name: str | VaeConfig, **changes: Any) -> VaeConfig:
    """Return the configuration of a VAE: a shipped preset by its name, or a TOML file by its path, some fields changed.

    One that is a configuration already is returned as it is.

    Raises:
        ConfigError: there is no such preset or file, or a field in it is wrong.
    """
    if isinstance(name, VaeConfig):
        return name
    return checked(VaeConfig, {**preset_values("vae", name), **changes}, name)


def recipe_preset(recipe: Recipe, name: str) -> Recipe:
    """Return a denoiser's recipe with one of its presets, or with the changes in a TOML file.

    A file holds the recipe's fields, `[adversarial]` and `[perceptual]` as tables; `without = ["perceptual"]` leaves a
    term out, and `preset = "NAME"` begins with another preset than the recipe as it is.

    Raises:
        ConfigError: there is no such preset or file, or a field in it is wrong.
    """
    if not is_file(name):
        if name != "default" and name not in recipe.presets:
            raise unknown("this denoiser", name, ["default", *recipe.presets])
        return recipe.preset(name)
    values = parsed(Path(name))
    start, without = values.pop("preset", "default"), values.pop("without", [])
    if not isinstance(without, list) or not set(without) <= {"adversarial", "perceptual"}:
        raise ConfigError(
            f"{name}: without lists terms of the loss, adversarial or perceptual; got {without!r}"
        )
    try:
        if "presets" in values:
            raise ConfigError("a preset cannot contain presets")
        return recipe.preset(start).changed({**values, **dict.fromkeys(without)})
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def preset_values(kind: Kind, name: str) -> dict[str, Any]:
    """Return what a shipped preset, or a TOML file, states.

    Raises:
        ConfigError: there is no such preset, or the file cannot be read.
    """
    return parsed(Path(name)) if is_file(name) else tomllib.loads(shipped_text(kind, name))


def shipped_text(kind: Kind, name: str) -> str:
    """Return the TOML file of a shipped preset, with its comments.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in PRESETS[kind]:
        raise unknown({"vae": "a VAE", "cinn": "a cINN"}[kind], name, PRESETS[kind])
    return FOLDER.joinpath(kind, f"{name}.toml").read_text(encoding="utf-8")


def preset_label(name: str) -> str:
    """Return how provenance calls a preset: its name, or the name of its file without folders."""
    return Path(name).name if is_file(name) else name


def checked(model: type[Model], values: Mapping[str, Any], origin: str) -> Model:
    """Return a configuration from the fields in a file; omitted ones keep their defaults.

    Raises:
        ConfigError: a field does not exist, or a value is not allowed; names file and field.
    """
    try:
        return model.model_validate_json(json.dumps(plain(values), allow_nan=False), strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False)
        sentences = []
        for fault in found[:SHOWN]:
            field = ".".join(map(str, fault["loc"]))
            message = fault["msg"].removeprefix("Value error, ")
            if fault["type"] == "extra_forbidden":
                sentences.append(f"{field} is unknown")
            elif fault["type"] == "value_error":
                sentences.append(f"{field}: {message}" if field else message)
            else:
                sentences.append(f"{field} is {fault['input']!r}: {message[0].lower()}{message[1:]}")
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise ConfigError(f"{origin}: {'; '.join(sentences)}{more}") from None
    except (TypeError, ValueError):
        raise ConfigError(
            f"{origin}: only finite numbers, strings, true, false, lists and tables are allowed"
        ) from None


def toml_text(values: Mapping[str, Any]) -> str:
    """Return flat values and tables of flat values as TOML."""
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    lines = [f"{key} = {written(value)}" for key, value in values.items() if key not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {written(value)}" for key, value in table.items())]
    return "\n".join(lines).strip("\n") + "\n"


def written(value: Any) -> str:
    """Return one value as TOML writes it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    return json.dumps(NONE if value is None else value)


def is_file(name: str) -> bool:
    """Return whether a preset is named by a path."""
    return name.endswith(".toml")


def parsed(path: Path) -> dict[str, Any]:
    """Return what a TOML file states.

    Raises:
        ConfigError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.expanduser().read_bytes().decode())
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror or error}. `invkit presets` prints one to start from"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None


def plain(value: Any) -> Any:
    """Return values with TOML's word for nothing taken as nothing."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return None if value == NONE else value


def unknown(what: str, name: str, known: Sequence[str]) -> ConfigError:
    """Return the error that names what there is."""
    listed = ", ".join(dict.fromkeys(known))
    return ConfigError(f"no preset {name!r} for {what}; there are: {listed}, or the path of a .toml file")
