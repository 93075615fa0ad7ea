"""A model that is named by a file, a folder or an import, and what such a name leaves open."""

from __future__ import annotations

__all__ = ["ChannelsOption", "NormaliseOption", "normalisation", "opened_model"]

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from invkit.cli.terminal.imports import importing
from invkit.cli.terminal.options import chosen_model, host_with
from invkit.denoisers.formats.reference import is_reference
from invkit.denoisers.spec import Affine
from invkit.errors import UsageError

if TYPE_CHECKING:
    from invkit.denoisers.loaded import LoadedDenoiser

NormaliseOption = Annotated[
    str | None,
    typer.Option(
        "--normalise",
        metavar="MEAN,STD",
        help="Units of a network that is given as a file: it takes (HU - MEAN) / STD. 0,1 for HU itself, -1024,4095 for 0 to 1.",
    ),
]
ChannelsOption = Annotated[
    int | None,
    typer.Option(
        "--channels", help="Input channels of a network that is given as a file: 1, or 3 for colour."
    ),
]


def opened_model(
    model: str | None,
    plugins: Sequence[str] | None,
    normalise: str | None,
    channels: int | None,
    device: str = "cpu",
) -> str | LoadedDenoiser:
    """Return the name of a plugin's denoiser, or what a file, a folder or `module.path:name` holds, opened.

    Raises:
        UsageError: no model was given; units are not said for a file, or are said for a denoiser that states its own.
        InvkitError: it cannot be used.
    """
    if model is None or not is_reference(model):
        if normalise is not None or channels is not None:
            raise UsageError(
                "--normalise and --channels are for a network that is given as a file or an import; a plugin states its own"
            )
        return chosen_model(model, plugins)
    host = host_with(plugins)
    with importing():
        from invkit.plugins.load import load

    return load(model, preprocessing=normalisation(normalise), channels=channels, device=device, host=host)


def normalisation(text: str | None) -> Affine | None:
    """Return `"MEAN,STD"` as a preprocessing.

    Raises:
        UsageError: it is not of this form.
    """
    if text is None:
        return None
    try:
        mean, std = (float(part) for part in text.split(","))
        return Affine(mean, std)
    except ValueError:
        raise UsageError(f"--normalise takes two numbers, such as -542.5,502.2; got {text!r}") from None
