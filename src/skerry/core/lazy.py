"""Names of a package that are imported when they are first asked for: what starts often must not load what it does not use."""

import importlib
from collections.abc import Callable
from typing import Any


def lazy(package: str, modules: dict[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` (PEP 562) for names that live in its submodules: `{name: submodule}`."""

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return get
