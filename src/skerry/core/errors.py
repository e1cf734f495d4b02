"""Errors by the caller's duty: who has to do what next. Every public call raises one of these or returns."""

import difflib
from collections.abc import Iterable


class SkerryError(Exception):
    """Base of all errors of skerry: says what, where (`where`) and how to mend it (`mend`)."""

    def __init__(self, message: str, *, where: str = "", mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.mend = mend

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}; {self.mend}" if self.mend else text


class ConfigError(SkerryError):
    """The configuration is wrong: mend the file. Names file and key, the value and what is allowed."""

    def __init__(self, message: str, *, where: str = "", mend: str = "", allowed: str = "") -> None:
        super().__init__(message, where=where, mend=mend or (f"allowed: {allowed}" if allowed else ""))
        self.allowed = allowed

    def at(self, where: str) -> "ConfigError":
        """The same error with the place put in front of the place it had."""
        inner = f"{where}.{self.where}" if self.where and where else where or self.where
        return ConfigError(self.message, where=inner, mend=self.mend, allowed=self.allowed)


class RejectedError(SkerryError):
    """The input is wrong; trying again with the same input will not help."""


class UnavailableError(SkerryError):
    """What is needed does not answer now; try again later."""


class OverloadedError(SkerryError):
    """Too much at once; slow down and try again."""


class InsufficientResources(SkerryError):
    """A limit would be passed; says what is short and by how much."""


class StoreFull(InsufficientResources):
    """A store has no room; says how much is missing and what to do."""


class CorruptError(SkerryError):
    """Data on disk is not what was written; says what was kept and where."""


class FencedError(SkerryError):
    """Another owner has taken over: stop, write nothing more."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""
