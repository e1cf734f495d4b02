"""Names of the features and of their columns, without the numpy that computes them."""

from collections.abc import Sequence

from skerry.core.errors import ConfigError, suggestion

NAMES: tuple[str, ...] = (
    "mean", "std", "min", "max", "range", "rms", "peak", "crest", "skew", "kurtosis", "median", "first", "last", "sum", "slope",
    "crossings", "count",
)  # fmt: skip


def check_names(names: Sequence[str]) -> None:
    """Raise `ConfigError` for the first name that is not a known feature, with the nearest known one."""
    for name in names:
        if name not in NAMES:
            raise ConfigError(f"unknown feature {name!r}{suggestion(name, NAMES)}", allowed=", ".join(sorted(NAMES)))


def column_names(names: Sequence[str], values: Sequence[str]) -> list[str]:
    """Names of the feature columns, value-major: `x_mean, x_std, …, y_mean, …`."""
    return [f"{value}_{name}" for value in values for name in names]
