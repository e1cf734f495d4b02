"""How much of the disk a node may have, and what goes first when that is used up. Pure.

Room is what may still be written: of the quota, and of the disk without a reserve. Where there is none left, things go in the
order of `STEPS` until there is some slack again; where nothing is left to go, the log takes nothing more. What the log holds never
goes by this.
"""

from typing import NamedTuple

from skerry.core.units import show_size

MIB = 1024 * 1024
STEPS = ("raw history", "rotated logs", "old models", "minutes of history")
"""What goes, first to last. Hours of history, the store and the log never do."""
LEAST, MOST = 16 * MIB, 64 * MIB


class Bounds(NamedTuple):
    """Bytes: the quota, and the reserve: a file that is given up when the disk is full to the last byte."""

    limit: int
    reserve: int

    @property
    def edge(self) -> int:
        """What stays free beside the reserve, for checkpoints while it is there."""
        return self.reserve // 2

    @property
    def slack(self) -> int:
        """How much room there is again before it counts as enough."""
        return self.reserve


def bounds_of(limit: int, disk: int) -> Bounds:
    """The bounds for a quota on a disk of that size: a reserve of a 32nd of the smaller one, 16 to 64 MiB."""
    return Bounds(limit, min(MOST, max(LEAST, min(limit, disk) // 32)))


def room_of(bounds: Bounds, used: int, free: int, reserved: bool) -> int:
    """What may still be written; less than 0: so much is missing.

    Args:
        used: bytes of all that the node keeps. free: of the disk. reserved: whether the reserve is there; else it is to be again.
    """
    return min(bounds.limit - used, free - bounds.edge - (0 if reserved else bounds.reserve))


class State(NamedTuple):
    """Where it stands: whether things are given up, whether the log is shut, and which steps have nothing more."""

    acting: bool = False
    shut: bool = False
    spent: frozenset[str] = frozenset()


class Decision(NamedTuple):
    """The next state, and what is to go now: a step and about how many bytes; no step: nothing."""

    state: State
    step: str = ""
    size: int = 0


def decide(state: State, room: int, slack: int) -> Decision:
    """What to do with so much room. Begins below 0 and ends at `slack`, so that it does not flutter."""
    if room >= slack:
        return Decision(State())
    if room >= 0 and not state.acting:
        return Decision(state)
    step = next((each for each in STEPS if each not in state.spent), "")
    # far below: what goes in the next seconds may not be enough for what comes in them
    shut = state.shut or (room < 0 and (not step or room < -slack))
    return Decision(State(acting=True, shut=shut, spent=state.spent), step, slack - room if step else 0)


def spend(state: State, step: str) -> State:
    """A step gave nothing: it has nothing more, until there is room again."""
    return state._replace(spent=state.spent | {step})


def sentence(bounds: Bounds, used: int, free: int, state: State) -> str:
    """`24.7 MiB of 8.0 GiB`, and what is done about it where it is short."""
    most = min(bounds.limit, used + max(0, free - bounds.edge))
    words = f"{show_size(used)} of {show_size(most)}"
    if most < bounds.limit:
        words += f" (the disk has no more; resources.disk is {show_size(bounds.limit)})"
    if state.shut:
        return f"{words}; SHORT: devices get no acknowledgement until there is room"
    return f"{words}; short: the oldest goes" if state.acting else words
