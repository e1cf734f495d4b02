"""A pump station in numbers: pumps with eight sensors each, inertia, noise, drop-outs and faults whose truth is known.

Pure: time is passed in, randomness comes from the seed, so the same seed and the same times give the same readings.

Each pump is a centrifugal pump on a speed drive that works against a network:

    head     H = H0 s^2 - a Q^2                 s = speed / nominal speed (affinity laws), Q in m3/h, H in m
    network  H = Hs + Q^2 / c^2                 c = conductance; a closing valve lowers it, a leak adds to it
    flow     Q = sqrt((H0 s^2 - Hs) / (a + 1 / c^2))
    power    P = g Q H / (3600 eta(Q))             in kW for water; current from it at 400 V, three phases

Water, drive, casing and motor follow with first-order lags.
"""

import math
from random import Random

import msgspec

from skerry.demo.faults import NORMAL, Episode, FaultSchedule

PUMP_VALUES: tuple[str, ...] = (
    "flow", "pressure_in", "pressure_out", "current", "speed", "vibration", "temperature", "motor_temperature",
)  # fmt: skip
PUMP_FEATURES: tuple[str, ...] = ("mean", "std", "min", "max", "slope", "last")
PERIOD_US = 100_000

_NOMINAL_RPM = 2900.0
_BAR_PER_M = 0.0981
_BEST_FLOW = 62.0
_WATER_K_PER_KW = 0.45
_MOTOR_K_PER_KW = 3.6
_NOISE = {
    "flow": 0.35, "pressure_in": 0.008, "pressure_out": 0.025, "current": 0.18, "speed": 3.0, "vibration": 0.09,
    "temperature": 0.05, "motor_temperature": 0.08,
}  # fmt: skip
_DECIMALS = {"pressure_in": 3, "pressure_out": 3, "speed": 1}
_LAG_S = {"drive": 1.5, "water": 0.25, "shaft": 0.35, "casing": 120.0, "motor": 60.0}


class Reading(msgspec.Struct, frozen=True):
    """What one pump measured at one time. `fault` is the truth and is not for the model to see."""

    device: str
    ts_us: int
    values: dict[str, float]
    fault: str


class Pump:
    """One pump: its build, its state and its sensors' noise."""

    def __init__(self, device: str, seed: int) -> None:
        self.device = device
        self._draw = Random(f"{seed}:{device}")
        part = self._draw.uniform
        self._head = 42.0 * part(0.985, 1.015)
        self._curve = 0.0028 * part(0.985, 1.015)
        self._static = 8.0
        self._conductance = 14.6 * part(0.98, 1.02)
        self._suction = 1.6 * part(0.97, 1.03)
        self._rough = 1.4 * part(0.9, 1.1)
        self._ambient = 17.0 + part(-2.0, 2.0)
        self._demand = part(-1.0, 1.0)
        self._phase = part(0.0, math.tau)
        self._speed = self._wanted_speed()
        self._flow = self._steady_flow(None, 0)
        self._vibration = self._rough
        self._temperature = self._ambient + _WATER_K_PER_KW * self._power()
        self._motor = self._ambient + _MOTOR_K_PER_KW * self._power()
        self._missing = 0

    def step(self, t_us: int, dt_s: float, episode: Episode | None) -> Reading | None:
        """Move on by `dt_s` seconds and measure; None where the sample drops out."""
        self._move(t_us, dt_s, episode)
        values = {name: self._measure(name, value) for name, value in self._true_values().items()}
        if self._drops_out():
            return None
        return Reading(self.device, t_us, values, episode.fault if episode else NORMAL)

    def _move(self, t_us: int, dt_s: float, episode: Episode | None) -> None:
        calm = math.exp(-dt_s / 40.0)
        self._demand = self._demand * calm + math.sqrt(1.0 - calm * calm) * self._draw.gauss(0.0, 1.0)
        self._speed = _follow(self._speed, self._wanted_speed(), dt_s, _LAG_S["drive"])
        self._flow = _follow(self._flow, self._steady_flow(episode, t_us), dt_s, _LAG_S["water"])
        self._phase = (self._phase + math.tau * self._speed / 60.0 * dt_s) % math.tau
        share = self._speed / _NOMINAL_RPM
        off_design = abs(self._flow / share - _BEST_FLOW) / _BEST_FLOW
        shaking = self._rough * share * share * (1.0 + 1.6 * off_design)
        if episode and episode.fault == "imbalance":
            shaking += 2.6 * episode.level(t_us) * share * share
        self._vibration = _follow(self._vibration, shaking, dt_s, _LAG_S["shaft"])
        power = self._power()
        self._temperature = _follow(self._temperature, self._ambient + _WATER_K_PER_KW * power, dt_s, _LAG_S["casing"])
        self._motor = _follow(self._motor, self._ambient + _MOTOR_K_PER_KW * power, dt_s, _LAG_S["motor"])

    def _wanted_speed(self) -> float:
        return _NOMINAL_RPM * (0.92 + 0.035 * math.tanh(self._demand))

    def _steady_flow(self, episode: Episode | None, t_us: int) -> float:
        share = self._speed / _NOMINAL_RPM
        conductance = self._conductance * (1.0 + 0.02 * math.tanh(self._demand))
        if episode and episode.fault == "valve":
            conductance *= 1.0 - 0.5 * episode.level(t_us)
        elif episode and episode.fault == "leak":
            conductance *= 1.0 + 0.45 * episode.level(t_us)
        return math.sqrt((self._head * share * share - self._static) / (self._curve + conductance**-2))

    def _lift(self) -> float:
        share = self._speed / _NOMINAL_RPM
        return self._head * share * share - self._curve * self._flow**2

    def _power(self) -> float:
        share = self._speed / _NOMINAL_RPM
        efficiency = 0.76 - 0.35 * ((self._flow / share - _BEST_FLOW) / _BEST_FLOW) ** 2
        return 9.81 * self._flow * self._lift() / (3600.0 * max(efficiency, 0.2))

    def _true_values(self) -> dict[str, float]:
        inlet = self._suction - 2.2e-5 * self._flow**2
        # one sample sees the turning shaft at one angle: its unbalance shows as a beat between speed and sampling rate
        beat = 0.18 * max(0.0, self._vibration - self._rough) * math.sin(self._phase)
        return {
            "flow": self._flow,
            "pressure_in": inlet,
            "pressure_out": inlet + _BAR_PER_M * self._lift(),
            "current": self._power() * 1000.0 / (math.sqrt(3.0) * 400.0 * 0.84) + 2.5,
            "speed": self._speed,
            "vibration": self._vibration + beat,
            "temperature": self._temperature,
            "motor_temperature": self._motor,
        }

    def _measure(self, name: str, value: float) -> float:
        return round(value + self._draw.gauss(0.0, _NOISE[name]), _DECIMALS.get(name, 2))

    def _drops_out(self) -> bool:
        """One sample in a hundred is lost, and now and then three in a row."""
        if self._missing == 0:
            chance = self._draw.random()
            self._missing = 1 if chance < 0.01 else 3 if chance < 0.012 else 0
        lost = self._missing > 0
        self._missing -= lost
        return lost


class PumpStation:
    """Several pumps with a schedule of faults, moved on by `step`.

    Args:
        seed: of the pumps' build, their noise and, without `schedule`, of the faults.
        pumps: how many; they are named `pump-1`, `pump-2` …
        schedule: which pump has which fault when; without one it begins with the first step.
    """

    def __init__(self, seed: int, pumps: int = 3, schedule: FaultSchedule | None = None) -> None:
        self.devices = tuple(f"pump-{number}" for number in range(1, pumps + 1))
        self.schedule = schedule
        self._seed = seed
        self._pumps = [Pump(device, seed) for device in self.devices]
        self._last: int | None = None

    def step(self, t_us: int) -> list[Reading]:
        """Readings of all pumps at this time, without those whose sample drops out. Time must not go back."""
        if self.schedule is None:
            self.schedule = FaultSchedule(self._seed, t_us, self.devices)
        passed = 0.0 if self._last is None else max(0, t_us - self._last) / 1e6
        self._last = t_us
        readings = (pump.step(t_us, passed, self.schedule.active(pump.device, t_us)) for pump in self._pumps)
        return [reading for reading in readings if reading is not None]

    def truth(self, device: str, t_us: int) -> str:
        """The fault of the device at this time, `normal` before the first step."""
        return self.schedule.truth(device, t_us) if self.schedule else NORMAL


def _follow(value: float, target: float, dt_s: float, lag_s: float) -> float:
    """First-order lag, exact for a constant target: stable for any step."""
    return target + (value - target) * math.exp(-dt_s / lag_s)
