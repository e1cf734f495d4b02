"""The seam for who wants to know what a runner is working on, and the names that windows have there."""

from skerry.pipeline.topics import key_token
from skerry.window.state import Closed


class Trace:
    """Told what is being worked on, before it is: so that who kills this process can be named. The base notes nothing."""

    def messages(self, pipeline: str, first: int, last: int) -> None: ...
    def windows(self, pipeline: str, first: str, last: str) -> None: ...
    def idle(self) -> None: ...


def window_name(window: Closed) -> str:
    """How a window is named in traces and poison lists; one that is tried again has a name of its own."""
    return f"{key_token(window.key)}@{window.start}" + (f"!{window.retried}" if window.retried else "")
