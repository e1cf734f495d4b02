"""What a pipeline goes without when the node is short: the steps of its `shed`, and which keys are scored meanwhile. Pure."""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import msgspec

from skerry.core.errors import ConfigError, suggestion
from skerry.window.state import Closed

HISTORY_RAW, SHADOW, SAMPLE = "history-raw", "shadow", "sample"
_WORDS = (HISTORY_RAW, SHADOW, f"{SAMPLE}:0.5")


class Standing(msgspec.Struct, frozen=True):
    """What a pipeline is given of the node.

    Attributes:
        held: it is not admitted: it reads nothing, and nothing of it is loaded.
        history, shadow: whether its samples are kept in the history, and whether a shadow runs beside its model.
        share: of its keys, those that are scored.
    """

    held: bool = False
    history: bool = True
    shadow: bool = True
    share: float = 1.0


def check_steps(steps: Sequence[str]) -> None:
    """Raises `ConfigError` for a step that is none, is there twice, or samples more than the one before it."""
    share = 1.0
    for at, step in enumerate(steps):
        where = f"shed[{at}]"
        if step in (HISTORY_RAW, SHADOW):
            if step in steps[:at]:
                raise ConfigError(f"{step} is there twice", where=where)
            continue
        word, _, number = step.partition(":")
        if word != SAMPLE:
            raise ConfigError(f"{step!r} is not known{suggestion(step, _WORDS)}", where=where, allowed=", ".join(_WORDS))
        found = _share(number)
        if found is None or not 0 < found < share:
            raise ConfigError(f"{number!r} is no share to score", where=where, allowed=f"a number above 0 and under {share:g}")
        share = found


def standing(steps: Iterable[str], held: bool = False) -> Standing:
    """What is left to a pipeline that goes without these steps."""
    left, share = set(steps), 1.0
    for step in left:
        if step.startswith(SAMPLE):
            share = min(share, _share(step.partition(":")[2]) or share)
    return Standing(held, HISTORY_RAW not in left, SHADOW not in left, share)


def is_scored(key: str, share: float) -> bool:
    """Whether a key is scored at this share: always the same ones, and those of a smaller share among them.

    The hash is another one than that which deals keys to partitions, so that each partition sheds its part.
    """
    return share >= 1.0 or int.from_bytes(blake2b(key.encode(), digest_size=4).digest(), "big") < share * 2**32


def without_shed(closed: Sequence[Closed], share: float) -> tuple[list[Closed], int]:
    """The windows that are scored, and how many messages the others hold. What a person tries again is never shed."""
    kept = [window for window in closed if window.retried or is_scored(window.key, share)]
    return kept, sum(window.messages for window in closed) - sum(window.messages for window in kept)


def _share(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
