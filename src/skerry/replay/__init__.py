"""A pipeline over what was: from the log or the history into a scratch output, compared with what it gave then."""

from skerry.replay.log import live_of
from skerry.replay.past import Choice, Past, Wanted, choose, past_of
from skerry.replay.run import Progress, replay, replay_file
from skerry.replay.span import Span, span_of

__all__ = ["Choice", "Past", "Progress", "Span", "Wanted", "choose", "live_of", "past_of", "replay", "replay_file", "span_of"]
