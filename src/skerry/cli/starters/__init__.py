"""What `skerry init --template` writes: a pipeline, and beside skerry.toml a model, a recording, and the events expected of it."""

from importlib.resources import files

NAMES = ("vibration", "energy", "cold-chain", "camera", "text-log")
_PIPELINE = "pipeline.toml"


def pipeline(name: str) -> str:
    """The part of skerry.toml that is the template's own."""
    return (files(__package__) / name / _PIPELINE).read_text(encoding="utf-8")


def contents(name: str) -> dict[str, bytes]:
    """File name → content of all that stands beside skerry.toml; nothing for a template that has no files."""
    if name not in NAMES:
        return {}
    found = {each.name: each for each in (files(__package__) / name).iterdir() if each.name != _PIPELINE}
    return {name: found[name].read_bytes() for name in sorted(found)}
