"""Where a frame goes: its key and the key's state, remembered by subject, so that a known device costs one look-up."""

import msgspec

from skerry.pipeline.decode import UNKNOWN_KEY, Undecoded, payload_fields
from skerry.pipeline.partitions import partition_of
from skerry.pipeline.spec import SourceSpec
from skerry.pipeline.topics import MAX_KEY, MAX_SUBJECT, RETRY_PREFIX, WINDOW_TAIL, KeyTemplate, filter_matches, topic_of
from skerry.window.state import KeyState


class Target(msgspec.Struct, gc=False):
    """Where frames of one subject go: the key and its state; a key of None is not ours."""

    key: str | None
    topic: str
    state: KeyState | None = None


class Router:
    """Keys of one pipeline partition.

    Args:
        keys: the states by key; new ones are put in, up to the source's `max_keys`.
        partition: (index, of how many): which keys are ours, by crc32.
    """

    def __init__(self, pipeline: str, source: SourceSpec, keys: dict[str, KeyState], partition: tuple[int, int]) -> None:
        self._retries = f"{RETRY_PREFIX}{pipeline}.".encode()
        self._own = f"events/{pipeline}/"
        self._window = self._retries + WINDOW_TAIL.encode()
        self._source = source
        self._keys = keys
        self._index, self._count = partition
        self._template = KeyTemplate(source.key, source.topic)
        self.targets: dict[bytes, Target] = {}

    def route(self, subject: bytes) -> Target:
        """Work out where frames of a subject go; `targets` remembers it."""
        topic = topic_of(subject)
        if subject == self._window:
            return self._remember(subject, Target("", topic))
        if not (subject.startswith(self._retries) or self._matches(subject, topic)):
            return self._remember(subject, Target(None, topic))
        key = self._template.from_topic(topic)
        if len(subject) > MAX_SUBJECT:
            return Target("", topic[:MAX_KEY])
        if key is None or len(key.encode()) > MAX_KEY:
            target = Target("", topic)
        elif self._template.fields:
            target = Target(key, topic)
        elif not self.mine(key):
            target = Target(None, topic)
        else:
            target = Target(key, topic, self.keyed(key))
        return self._remember(subject, target)

    def _matches(self, subject: bytes, topic: str) -> bool:
        """Whether the subject is of this source: each pipeline is shown the whole log. Its own events are never its input."""
        if topic.startswith(self._own):
            return False
        return not subject.startswith(RETRY_PREFIX.encode()) and filter_matches(self._source.topic, topic)

    def _remember(self, subject: bytes, target: Target) -> Target:
        if len(self.targets) >= 2 * self._source.max_keys:
            self.targets.clear()
        self.targets[subject] = target
        return target

    def mine(self, key: str) -> bool:
        """Whether this partition has the key."""
        return self._count == 1 or partition_of(key, self._count) == self._index

    def keyed(self, key: str) -> KeyState | None:
        """The state of a key, made where it is new; None when there are too many keys."""
        found = self._keys.get(key)
        if found is None and len(self._keys) < self._source.max_keys:
            found = self._keys[key] = KeyState()
        return found

    def owner(self, target: Target, payload: bytes) -> str:
        """What decides whose a frame is: its key, or "" where it has none."""
        try:
            return self.key_of(target, payload)
        except Undecoded:
            return ""

    def key_of(self, target: Target, payload: bytes) -> str:
        """The key of a frame, fields of its payload put in. Raises `Undecoded` where it has none."""
        key = target.key or ""
        if key and self._template.fields:
            found = payload_fields(payload, self._source.format, self._template.fields)
            if found is None:
                raise Undecoded(UNKNOWN_KEY, f"the payload has no {', '.join(self._template.fields)}")
            for field, text in zip(self._template.fields, found, strict=True):
                key = key.replace("{." + field + "}", text)
        if not key:
            raise Undecoded(UNKNOWN_KEY, f"{target.topic[:MAX_KEY]} has no key {self._template.template} of up to {MAX_KEY} bytes")
        if len(key.encode()) > MAX_KEY:
            raise Undecoded(UNKNOWN_KEY, f"a key of {len(key.encode())} bytes, allowed are {MAX_KEY}")
        return key
