"""Scenarios: each makes one thing go wrong, and shows in figures whether what was promised for it was kept."""

from skerry.demo.scenarios.bad_device import bad_device
from skerry.demo.scenarios.link_down import link_down
from skerry.demo.scenarios.new_model import new_model
from skerry.demo.scenarios.node_down import node_down
from skerry.demo.scenarios.process_down import process_down
from skerry.demo.scenarios.story import Outcome, Scenario, Told, play

SCENARIOS: dict[str, Scenario] = {
    "link-down": Scenario("while the link is down the box decides on, and what it decided reaches the centre, once", link_down),
    "node-down": Scenario("when a box of three goes another takes over, and what was acknowledged has its effect, once", node_down),
    "process-down": Scenario("whatever process of a box is killed, what was acknowledged has its effect, once", process_down),
    "bad-device": Scenario("a device that sends rubbish, guesses or pretends to be another harms none but itself", bad_device),
    "new-model": Scenario("a model is changed while messages flow, none is lost, and a bad one goes by itself", new_model),
}
"""By name: the promise in one sentence, and what shows it."""

__all__ = ["SCENARIOS", "Outcome", "Scenario", "Told", "play"]
