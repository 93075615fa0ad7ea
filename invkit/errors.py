"""Every error that a user can cause, in one tree.

::

    InvkitError                  base; `exit_code` is what the command line ends with
    ├── UsageError         2     the call itself is wrong: unknown option value, impossible combination
    │   └── ConfigError    2     a configuration file or field is wrong
    ├── InputError         3     what was given cannot be used
    │   ├── ImageError     3     an image file or array is not a usable CT image
    │   ├── DataError      3     a training data set is missing, empty or inconsistent
    │   └── ArtifactError  3     a stored file is missing, damaged or of another kind
    ├── PluginError        4     a plugin is broken, unknown or breaks its contract
    │   ├── UnknownNameError 4   no such denoiser, weights tag, metric, ...
    │   └── DenoiserError  4     a denoiser breaks its contract (shape, dtype, device, ...)
    ├── SplitError         4     the network cannot be split where it was asked
    ├── CheckFailedError   5     a check ran and does not hold
    │   └── DivergedError  5     a training diverged
    └── ResourceError      6     no space, no memory, no permission
"""

__all__ = [
    "ArtifactError",
    "CheckFailedError",
    "ConfigError",
    "DataError",
    "DenoiserError",
    "DivergedError",
    "ImageError",
    "InputError",
    "InvkitError",
    "PluginError",
    "ResourceError",
    "SplitError",
    "UnknownNameError",
    "UsageError",
    "described",
    "place_of",
    "require_choice",
]

import os
import sysconfig
import traceback

LONGEST = 500  # characters of an error of somebody else's code


class InvkitError(Exception):
    """Base of all errors that a user can cause; the message says what, why, and what to do."""

    exit_code = 1


class UsageError(InvkitError, ValueError):
    """The call itself is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file, or a field in it, is wrong."""


class InputError(InvkitError, ValueError):
    """The input cannot be used."""

    exit_code = 3


class ImageError(InputError):
    """A file or array is not a usable CT image."""


class DataError(InputError):
    """A training data set is missing, empty or inconsistent."""


class ArtifactError(InputError):
    """A stored file is missing, damaged, or not the requested one."""


class PluginError(InvkitError):
    """A plugin is broken, unknown, or breaks its contract."""

    exit_code = 4


class UnknownNameError(PluginError, LookupError):
    """Nothing is registered under this name; the message lists all names."""


class DenoiserError(PluginError):
    """A denoiser breaks its contract."""


class SplitError(InvkitError, ValueError):
    """The network cannot be split at this layer; the message says why."""

    exit_code = 4


class CheckFailedError(InvkitError):
    """A check failed."""

    exit_code = 5


class DivergedError(CheckFailedError):
    """A training diverged and was stopped."""


class ResourceError(InvkitError, OSError):
    """There is not enough disk space or memory, or no permission."""

    exit_code = 6


def require_choice(what: str, value: object, known: tuple[str, ...]) -> None:
    """Refuse a choice that is none of those there are, in the same words in Python and on the command line.

    Args:
        what: is chosen, as the argument is called.
        value: that was given.
        known: the choices.

    Raises:
        UsageError: it is none of them.
    """
    if value not in known:
        raise UsageError(f"{what} is {' or '.join(known)}, got {value!r}")


def described(error: BaseException) -> str:
    """Return an error of somebody else's code as one line of limited length, with the place; whatever its `__str__` does."""
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r:.60}){place_of(error)}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"it needs the module {error.name!r}, which is not installed{place_of(error)}"
    try:
        message = " ".join(str(error).split())
    except Exception:
        message = "(its message cannot be shown)"
    name = "" if isinstance(error, InvkitError) else f"{type(error).__name__}: "
    return f"{name}{message}"[:LONGEST].rstrip(": ") + place_of(error)


def place_of(error: BaseException) -> str:
    """Return where a plugin's own code was when it failed, ` (blur/net.py, line 12)`, or nothing.

    That is the innermost place outside invkit and all that is installed; of a plugin that is installed, the innermost in its own
    package.
    """
    paths = sysconfig.get_paths()
    installed = f"{paths['purelib']}{os.sep}"
    ours = (
        os.path.dirname(__file__) + os.sep,
        "<",
        f"{installed}torch{os.sep}",
        f"{installed}pluggy{os.sep}",
    )
    frames = [
        (frame.filename, frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(ours)
        and (frame.filename.startswith(installed) or not frame.filename.startswith(paths["stdlib"]))
    ]
    own = [place for place in frames if not place[0].startswith(installed)]
    if frames and not own:
        package = frames[0][0].removeprefix(installed).split(os.sep)[0]
        own = [place for place in frames if place[0].removeprefix(installed).split(os.sep)[0] == package]
    if not own:
        return ""
    file, line = own[-1]
    return f" ({'/'.join(file.split(os.sep)[-2:])}, line {line})"
