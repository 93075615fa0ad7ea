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
    "require_choice",
]


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
