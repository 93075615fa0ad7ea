"""Training data from everywhere: phantoms, paths, and the data sources of plugins, in one set."""

__all__ = ["DataSpecs", "gather", "open_source"]

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from invkit.data.slices import PHANTOMS, NoiseModel, SliceSet, join_slices, load_slices
from invkit.errors import DataError, InvkitError, PluginError, place_of, require_choice
from invkit.plugins.manager import PluginHost
from invkit.plugins.records import Source

DataSpecs = Sequence[str | Path] | str | Path | SliceSet | None


def gather(
    specs: DataSpecs,
    host: PluginHost,
    seed: int,
    noise: NoiseModel = "image",
    keep: Path | None = None,
) -> SliceSet:
    """Return the slices that `specs` names, all in one set.

    What `load_slices` can read alone comes out exactly as from there, with the same fingerprint. The order of
    the specs does not matter.

    Args:
        specs: `None` or empty for the phantoms; a set that is open already, which is returned as it is; else each
            is the name of a plugin's data source, `NAME` or `NAME:REST`, or what `load_slices` takes:
            `"phantoms"`, `"phantoms:N"`, a path. A name goes before a path: write `./NAME` for a folder that is
            called like a source.
        host: the plugins.
        seed: of phantoms, and given to the sources.
        noise: how noise is made, `"image"` or `"physical"`; a set that is open already keeps its own.
        keep: the cache, where phantoms and physically simulated noise are kept between runs.

    Raises:
        DataError: a path is missing, or data hold no usable slice.
        PluginError: a data source failed.
        UsageError: a spec is malformed, or the same data are named twice.
    """
    require_choice("noise", noise, get_args(NoiseModel))
    if isinstance(specs, SliceSet):
        return specs
    found = _gathered(specs, host, seed, keep / "phantoms" if keep else None)
    return found.simulated(keep / "noise" if keep else None) if noise == "physical" else found


def _gathered(
    specs: Sequence[str | Path] | str | Path | None, host: PluginHost, seed: int, phantoms: Path | None
) -> SliceSet:
    specs = [specs] if isinstance(specs, str | Path) else list(specs or [])
    opened: list[SliceSet] = []
    rest: list[str | Path] = []
    for spec in specs:
        name, _, argument = spec.partition(":") if isinstance(spec, str) else ("", "", "")
        if name != PHANTOMS and name in host.names("sources"):
            opened.append(open_source(host.source(name), argument, seed))
        else:
            rest.append(spec)
    if not opened:
        return load_slices(rest, seed=seed, cache=phantoms)
    parts = [*opened, load_slices(rest, seed=seed, cache=phantoms)] if rest else opened
    return join_slices(parts)


def open_source(source: Source, argument: str, seed: int) -> SliceSet:
    """Return what a plugin's source gives, held to its promise.

    Args:
        source: of the plugin.
        argument: what the user typed behind its name and a colon, or nothing.
        seed: of the training.

    Raises:
        PluginError: it raised, or returned anything but slices.
        DataError: there are none.
    """
    try:
        found: object = source.open(argument, seed)
    except InvkitError:
        raise
    except Exception as error:
        # Its message may quote anything of the data, a patient's attributes too, so it is left out.
        raise PluginError(
            f"data source {source.name} raised {type(error).__name__} for {argument!r}{place_of(error)}: "
            "please report this to the author of the plugin"
        ) from error
    if not isinstance(found, SliceSet):
        raise PluginError(
            f"data source {source.name} must return an invkit.SliceSet, got a {type(found).__name__}"
        )
    if not found.slices:
        raise DataError(f"data source {source.name} holds no slices for {argument!r}")
    return found
