"""What pipelines send over the network, held to what each may: its sinks here, its uplink in that process, and both together."""

from collections.abc import Mapping
from typing import Any

from skerry.config import NodeConfig
from skerry.core.clock import Clock
from skerry.core.units import parse_rate
from skerry.pipeline import Limits, MqttDelivery
from skerry.runtime import Allowance

Row = dict[str, Any]


class Bandwidth:
    """The allowances of pipelines with `resources.network`. What the uplink sends their sinks wait for longer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._allowances: dict[str, Allowance] = {}
        self._counted: dict[str, int] = {}

    def take_config(self, config: NodeConfig) -> None:
        """Hold pipelines to what the configuration says from now on; one whose rate stays goes on with what it owes."""
        rates = {spec.name: parse_rate(spec.resources.network) for spec in config.pipelines if spec.resources.network}
        before = self._allowances
        self._allowances = {
            name: before[name] if name in before and before[name].rate == rate else Allowance(rate, self._clock)
            for name, rate in rates.items()
        }

    def of(self, pipeline: str) -> Allowance | None:
        """What a pipeline may send; None: as much as it likes."""
        return self._allowances.get(pipeline)

    def limits(self, delivery: str) -> Limits | None:
        """What holds a delivery; None for one that stays on this machine, and where no pipeline is held."""
        return self.of if delivery == MqttDelivery.name and self._allowances else None

    def uplink_sent(self, counts: Mapping[str, int]) -> None:
        """Take in what the uplink has sent of each pipeline since its process started."""
        for name, count in counts.items():
            before = self._counted.get(name, 0)
            allowance = self._allowances.get(name)
            if allowance is not None:
                allowance.spend(count - before if count >= before else count)
            self._counted[name] = count

    def row(self, pipeline: str, waiting: int) -> Row | None:
        """Rate and bytes sent of one that is held, and how much `waiting` there is; None for one that is not."""
        allowance = self._allowances.get(pipeline)
        if allowance is None:
            return None
        return {"limit": allowance.rate, "sent": allowance.sent, "waiting": waiting}
