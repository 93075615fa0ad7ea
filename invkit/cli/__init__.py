"""The command line: each command parses, calls what does the work, and prints."""

__all__ = ["main"]

from invkit.cli.app import main
