"""Reading the file of a run: a path or a shipped preset, changes from the command line, one clear error."""

__all__ = ["preset_names", "read_config"]

import json
import math
import tomllib
import types
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from invkit.errors import ConfigError
from invkit.parts.preset_file import PRESETS as NAMES
from invkit.parts.preset_file import plain, preset_values
from invkit.workflow.config import RunConfig

PRESETS = files("invkit.workflow").joinpath("presets")
SECTION_PRESETS: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "vae": {name: plain(preset_values("vae", name)) for name in NAMES["vae"]},
    "cinn": {name: plain(preset_values("cinn", name)["cinn"]) for name in NAMES["cinn"]},
}
SHOWN = 5


def preset_names() -> list[str]:
    """Return the names of the shipped files, smallest first."""
    return ["tiny", "small", "paper"]


def read_config(source: str | Path, changes: Sequence[str] = ()) -> RunConfig:
    """Return the checked configuration of a run.

    Args:
        source: name of a shipped preset, or path of a TOML file; also of the `config.json` of a run's folder.
            A name goes before a path.
        changes: `"a.b=c"` each, with c as in TOML or a bare word: changes to the file's fields.

    Raises:
        ConfigError: the file cannot be read, or a field is wrong; names the file, the field and what is allowed.
    """
    name = str(source)
    values = _parsed(name)
    for change in changes:
        _change(values, change)
    origin = f"{name} with --set" if changes else name
    try:
        if isinstance(values.get("data"), str):
            values["data"] = [values["data"]]
        text = json.dumps(_plain(_expanded(values), ""), allow_nan=False)
        return RunConfig.model_validate_json(text, strict=True)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from None
    except ValidationError as error:
        found = error.errors(include_url=False)
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise ConfigError(f"{origin}: {'; '.join(map(_sentence, found[:SHOWN]))}{more}") from None


def _parsed(name: str) -> dict[str, Any]:
    try:
        if name in preset_names():
            text = PRESETS.joinpath(f"{name}.toml").read_text(encoding="utf-8")
        else:
            text = Path(name).read_bytes().decode()
        values = json.loads(text) if name.endswith(".json") else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"cannot read {name}: {error.strerror or error}. "
            f"Give a TOML file, or one of {', '.join(preset_names())}"
        ) from None
    except (ValueError, RecursionError) as error:
        kind = "JSON" if name.endswith(".json") else "TOML"
        raise ConfigError(f"{name} is not {kind}: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{name} must hold one object with the fields of a run")
    return values


def _change(values: dict[str, Any], change: str) -> None:
    """Set one field, `"a.b=c"`, in place."""
    path, equals, text = change.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        raise ConfigError(f"--set needs FIELD=VALUE, as in vae.steps=100; got {change!r}")
    table = values
    for depth, key in enumerate(keys[:-1]):
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {change}: {'.'.join(keys[: depth + 1])} has no fields")
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        parsed = {}
    table[keys[-1]] = parsed["value"] if parsed.keys() == {"value"} else text.strip()


def _expanded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Put the fields of a section's `preset` below those that it states itself."""
    result = dict(values)
    for section, presets in SECTION_PRESETS.items():
        stated = result.get(section)
        if not isinstance(stated, Mapping) or "preset" not in stated:
            continue
        name = stated["preset"]
        if not isinstance(name, str) or name not in presets:
            raise ConfigError(f"{section}.preset is {name!r}; allowed are {', '.join(presets)}")
        result[section] = {**presets[name], **{key: stated[key] for key in stated if key != "preset"}}
    return result


def _plain(value: Any, path: str) -> Any:
    """Return JSON values, and refuse what TOML can say and JSON cannot."""
    if isinstance(value, Mapping):
        return {key: _plain(item, f"{path}.{key}" if path else key) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}.{number}") for number, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path} is {value}; only finite numbers are allowed")
    if value is not None and not isinstance(value, str | int | float):
        raise ConfigError(f"{path} is a date or time; allowed are numbers, strings, lists and tables")
    return value


def _sentence(error: ErrorDetails) -> str:
    """Return one of pydantic's errors as a sentence with the field, what was got and what is allowed."""
    place = error["loc"]
    field = ".".join(map(str, place))
    if error["type"] == "extra_forbidden":
        allowed = _fields(RunConfig, place[:-1])
        if place[0] in SECTION_PRESETS and len(place) == 2:
            allowed = ["preset", *allowed]
        return f"{field} is unknown; allowed are {', '.join(allowed)}"
    if error["type"] == "missing":
        return f"{field} is missing: {NEEDED.get(field, 'it has no default')}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{field}: {message}" if field else message
    return f"{field} is {_short(error['input'])}: {message[0].lower()}{message[1:]}"


NEEDED = {
    "data": 'name what is trained on, as in data = ["/path/to/ct"] or --set \'data=["phantoms"]\'',
    "denoisers": "it needs a table [denoisers.NAME] with layers",
}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fields(model: Any, place: Sequence[int | str]) -> list[str]:
    """Return the fields of the table at a place in the configuration."""
    for key in place:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[str(key)].annotation
        elif get_origin(model) is dict:
            model = get_args(model)[1]
        if get_origin(model) in (Union, types.UnionType):
            model = next(part for part in get_args(model) if part is not type(None))
    return list(model.model_fields)
