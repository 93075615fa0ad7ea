"""The failure of one process as another can read and raise it."""

__all__ = ["described", "rebuilt"]

from collections.abc import Mapping
from typing import Any

import invkit.errors
from invkit.errors import InvkitError, UsageError
from invkit.training.processes.interrupt import Interrupted


def described(error: BaseException) -> dict[str, Any]:
    """Return an error as JSON values."""
    if isinstance(error, Interrupted):
        return {"type": "Interrupted", "signal": int(error.signal), "message": str(error)}
    if isinstance(error, KeyboardInterrupt):
        return {"type": "Interrupted", "signal": 2, "message": "stopped by Ctrl-C"}
    if isinstance(error, InvkitError):
        known = [kind.__name__ for kind in type(error).__mro__ if hasattr(invkit.errors, kind.__name__)]
        return {"type": known[0], "message": str(error)}
    if isinstance(error, MemoryError):
        return {"type": "ResourceError", "message": "there is not enough memory"}
    if getattr(error, "exit_code", None) == UsageError.exit_code:
        # The command line's own, of an option that cannot be read.
        return {"type": "UsageError", "message": "the call cannot be read"}
    # The message of any other error may quote pixels or a patient's attributes.
    return {"type": "InvkitError", "message": f"this is a bug in invkit: {type(error).__name__}"}


def rebuilt(found: Mapping[str, Any], where: str) -> InvkitError:
    """Return an error of the type that was described.

    Args:
        found: what `described` returned.
        where: it came from, with which the message begins.
    """
    message = f"{where}: {found['message']}"
    if found["type"] == "Interrupted":
        return Interrupted(found["signal"], message)
    kind: type[InvkitError] = getattr(invkit.errors, found["type"])
    return kind(message)
