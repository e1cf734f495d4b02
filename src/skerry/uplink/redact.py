"""Privacy: which fields leave, which do not, and which only changed. Pure, but for the site's key.

A rule is for a field, all that lies in it, and all that is computed of it by the pipeline's own features. Of several rules for a
field the first counts.
"""

import hmac
import math
import re
import struct
from collections import Counter
from collections.abc import Callable, Sequence

from skerry.pipeline import KeyTemplate, PipelineSpec
from skerry.uplink.config import RedactRule

KEY_NAMES = ("key", "device")
_MOST_NAMES = 10_000
NOT_ALLOWED = "not in allow"
"""What withheld fields are counted under where only named ones may leave."""
Text = Callable[[str], str]
Number = Callable[[float], float]


class Action:
    """What becomes of a field; `label` is what it is counted under."""

    def __init__(self, rule: RedactRule, key: bytes, label: str = "") -> None:
        self.label = label or f"{rule.field}: {rule.how}"
        self.drops = rule.how == "drop"
        self._rule = rule
        self._key = key
        self._classes = [(_pattern(pattern), name) for pattern, name in rule.into.items()]

    def text(self, value: str) -> str:
        """What stands in a text's place; nothing where no class fits."""
        if self._rule.how == "hash":
            return pseudonym(self._key, value)
        if self._rule.how == "generalise":
            return next((name for pattern, name in self._classes if pattern.fullmatch(value)), "")
        return ""

    def number(self, value: float) -> float:
        """What stands in a number's place; NaN where nothing does."""
        if self._rule.how == "hash":
            return float(int.from_bytes(hmac.digest(self._key, struct.pack("<d", value), "sha256")[:6], "little"))
        if not self._rule.to or self.drops or not math.isfinite(value):
            return math.nan
        steps = value / self._rule.to
        if not math.isfinite(steps):
            return math.nan
        whole = math.floor(steps) if self._rule.how == "generalise" else round(steps)
        return float(f"{whole * self._rule.to:.15g}")

    def any(self, value: object) -> object:
        """What stands in any value's place; None where nothing does."""
        if isinstance(value, str):
            return self.text(value) or None
        if isinstance(value, int | float):
            found = self.number(float(value))
            return None if math.isnan(found) else found
        return None


class Privacy:
    """The rules of a node. `withheld` counts the fields that did not leave as they were, by rule.

    Args:
        allow: only these fields may leave (patterns); None: all may.
        key: the site's.
    """

    def __init__(self, rules: Sequence[RedactRule], allow: Sequence[str] | None, key: bytes) -> None:
        self.withheld: Counter[str] = Counter()
        self._key = key
        self._rules = [(_pattern(rule.field), Action(rule, key)) for rule in rules]
        self._allow = None if allow is None else [_pattern(field) for field in allow]
        self._none = Action(RedactRule("*"), key, NOT_ALLOWED)

    @property
    def strict(self) -> bool:
        """Whether only named fields may leave."""
        return self._allow is not None

    def of(self, *paths: str) -> Action | None:
        """What becomes of a field that has these names; None: it leaves as it is."""
        for pattern, action in self._rules:
            if any(_fits(pattern, path) for path in paths):
                return action
        if self._allow is not None and not any(_fits(pattern, path) for pattern in self._allow for path in paths):
            return self._none
        return None

    def rule_of(self, path: str) -> Action | None:
        """As `of`, but only rules: what is not allowed does not count."""
        return next((action for pattern, action in self._rules if _fits(pattern, path)), None)

    def mask(self, text: str) -> str:
        """A name that tells nothing of what it is made of."""
        return pseudonym(self._key, text)


class Fields:
    """What becomes of the fields of one pipeline's samples and events.

    Attributes:
        values: one action for each value of the source. key: for the device.
    """

    def __init__(self, spec: PipelineSpec, privacy: Privacy) -> None:
        self.privacy = privacy
        source = spec.source
        self.values = [privacy.of(name) for name in source.names]
        template = KeyTemplate(source.key, source.topic)
        self.key = privacy.of(*KEY_NAMES) or next((found for name in template.fields if (found := privacy.rule_of(name))), None)
        self._marked = [(name, action) for name in source.names if (action := privacy.rule_of(name))]
        self._features: dict[str, Action | None] = {}
        self._plain: dict[str, Action | None] = {}
        self._first = ""
        if not isinstance(spec.features, str):
            self._of = {f"{name}_{feature}": name for name in source.names for feature in spec.features}
            # without a model the first feature, or the first value, is the score
            self._first = "" if spec.model else next(iter(self._of or source.names), "")
        else:
            self._of = {}
            self._first = "" if spec.model else "*"

    def feature(self, name: str) -> Action | None:
        """For a feature: its own rule, else that of the value it is computed of; what may hold a marked value is dropped."""
        if name not in self._features:
            if len(self._features) >= _MOST_NAMES:
                self._features.clear()
            self._features[name] = self._feature(name)
        return self._features[name]

    def plain(self, name: str) -> Action | None:
        """For another field of an event. A model's score is not what went in, but a feature that stands in its place is."""
        if name not in self._plain:
            own = self.privacy.of(name)
            self._plain[name] = self._derived(self._first) if own is None and name == "score" and self._first else own
        return self._plain[name]

    def withhold(self, action: Action, times: int = 1) -> None:
        """Count it."""
        self.privacy.withheld[action.label] += times

    def shown_key(self, key: str) -> str:
        """The device as it leaves."""
        if self.key is None:
            return key
        self.withhold(self.key)
        return self.key.text(key)

    def shown_id(self, identity: str) -> str:
        """An event's id as it leaves: it is computed from the device, which could be found by trying."""
        return identity if self.key is None and not self.privacy.strict else self.privacy.mask(identity)

    def _feature(self, name: str) -> Action | None:
        own = self.privacy.of(name, f"features.{name}")
        return own if own is not None else self._derived(name)

    def _derived(self, name: str) -> Action | None:
        source = self._of.get(name, name)
        for value, action in self._marked:
            if value == source:
                return action
        if self._marked and name not in self._of:
            # nobody knows which values it is computed of
            return Action(RedactRule("*"), b"", self._marked[0][1].label)
        return None


def pseudonym(key: bytes, text: str) -> str:
    """HMAC-SHA256 of a text with the site's key, its first 16 bytes in hex."""
    return hmac.digest(key, text.encode(), "sha256")[:16].hex()


def matches(pattern: str, path: str) -> bool:
    """Whether a rule's field is a path, or holds it: `gps` and `gps.*` hold `gps.lat`, `*.serial` is `serial` too."""
    return _fits(_pattern(pattern), path)


def _fits(pattern: re.Pattern[str], path: str) -> bool:
    parts = path.split(".")
    return any(pattern.fullmatch(".".join(parts[: end + 1])) for end in range(len(parts)))


def _pattern(text: str) -> re.Pattern[str]:
    whole = re.escape(text).replace(r"\*", ".*").replace(r"\?", ".")
    if text.startswith("*."):
        whole = rf"(?:.*\.)?{whole[4:]}"
    return re.compile(whole, re.DOTALL)
