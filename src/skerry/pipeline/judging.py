"""From a scored window to its event, or to none: the rule decides, and the id is computed from what the event is about."""

import math
from collections.abc import Mapping

from skerry.core.clock import to_rfc3339
from skerry.core.ports import Scorer
from skerry.pipeline.event import Event
from skerry.pipeline.rule import Alarm, Rule, digest
from skerry.pipeline.spec import PipelineSpec
from skerry.window.state import Closed


class Judge:
    """What one pipeline makes of its scored windows; the alarms are the caller's, so that they are part of its checkpoint."""

    def __init__(self, spec: PipelineSpec, node: str) -> None:
        self._pipeline = spec.name
        self._node = node
        self._rule = Rule(spec.rule) if spec.rule else None

    def event(
        self,
        alarms: dict[str, Alarm],
        scorer: Scorer | None,
        window: Closed,
        score: float,
        label: str | int | None,
        features: dict[str, float],
        latency: float,
    ) -> Event | None:
        """The event of a window; None where the rule says nothing new. `latency` in milliseconds."""
        name, key = self._pipeline, window.key
        state, alarm_id, flaps = "info", None, None
        if self._rule is not None:
            alarm = alarms.get(key)
            if alarm is None:
                alarm = alarms[key] = Alarm()
            value = self._value(self._rule, score, features)
            changed = self._rule.judge(alarm, value, window.start, window.end, name, key) if not math.isnan(value) else None
            if changed is None:
                return None
            state, alarm_id, flaps = changed, alarm.alarm_id, alarm.flaps
        return Event(
            id=digest(name, key, str(window.start), str(window.end), str(window.index), state),
            pipeline=name,
            key=key,
            node=self._node,
            start=to_rfc3339(window.start),
            end=to_rfc3339(window.end),
            count=window.samples,
            score=score,
            label=label,
            state=state,
            severity=self._rule.severity if self._rule else None,
            features=features,
            model=scorer.name if scorer else None,
            version=scorer.version if scorer else None,
            latency_ms=round(latency, 3),
            alarm_id=alarm_id,
            flaps=flaps,
        )

    @staticmethod
    def _value(rule: Rule, score: float, features: Mapping[str, float]) -> float:
        return score if rule.spec.field == "score" else features.get(rule.spec.field, math.nan)
