"""The command line: `skerry`. Prints and asks; what is decided is decided in the rooms below."""

from skerry.cli.entry import main

__all__ = ["main"]
