"""`/cluster`: who is there and what runs where; drain, resume, remove, let in."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from nicegui import ui

from skerry.core.errors import RejectedError
from skerry.dashboard import cluster
from skerry.dashboard.controls import Field, button, sure
from skerry.dashboard.frame import Desk
from skerry.dashboard.html import Html, h, join
from skerry.dashboard.live import Live

API = "/api/v1/cluster"
TIMES = {"10 minutes": "10m", "1 hour": "1h", "1 day": "1d"}
Act = Callable[[], Awaitable[None]]


async def cluster_page(desk: Desk) -> None:
    """`/cluster`"""
    Live(h("h1", "Cluster"), tag="header").classes("page-head")
    if not desk.status.get("cluster"):
        Live(cluster.alone())
        return
    nodes = [str(row["id"]) for row in await _ask(desk, "members")]

    async def draw() -> Html:
        found = await desk.client.get(API)
        return join([cluster.state(found), cluster.members(await _ask(desk, "members"))])

    async def waiting() -> Html:
        return cluster.pending(await _ask(desk, "pending"))

    async def changed() -> Html:
        return cluster.changes(await _ask(desk, "changes"))

    await desk.part(draw, every=2)
    if nodes:
        _work(desk, nodes)
    await desk.part(waiting, every=2)
    _letting_in(desk)
    await desk.part(changed, every=3)


async def _ask(desk: Desk, what: str) -> list[dict[str, Any]]:
    """The rows of one of the cluster's lists; none where this node is in no cluster any more."""
    try:
        found: list[dict[str, Any]] = (await desk.client.get(f"{API}/{what}"))[what]
    except RejectedError:
        return []
    return found


def _work(desk: Desk, nodes: list[str]) -> None:
    """Where work is to be, by hand."""
    with ui.element("section").classes("card").props('aria-label="Move work"'):
        Live(h("h2", "Move work"), tag="header")
        with ui.element("div").classes("form"):
            node = Field("Node", nodes[0], choices=nodes)

        def here(what: str = "") -> str:
            return f"{API}/members/{quote(node.value, safe='')}{what}"

        async def drain() -> None:
            if await sure(f"Drain {node.value}?", "Its work goes to the other nodes, until it is resumed.", "Drain it"):
                await desk.do(desk.client.post(here("/drain")), f"The work of {node.value} goes elsewhere.")

        async def resume() -> None:
            await desk.do(desk.client.post(here("/resume")), f"{node.value} gets work again.")

        async def remove() -> None:
            if await sure(f"Take {node.value} out for good?", "It must be offline; it joins anew if it comes back.", "Take it out"):
                await desk.do(desk.client.delete(here()), f"{node.value} is out of the cluster.")

        async def step_down() -> None:
            if await sure("Give the office up?", "This node stops leading, and the nodes choose another.", "Step down"):
                await desk.do(desk.client.post(f"{API}/step-down"), "Another node takes the office.")

        with ui.element("div").classes("actions"):
            button("Drain", drain)
            button("Resume", resume)
            button("Take out", remove, "danger")
            button("Step down", step_down)


def _letting_in(desk: Desk) -> None:
    """Another node comes with a token, or waits for a person."""
    with ui.element("section").classes("card").props('aria-label="Let a node in"'):
        Live(h("h2", "Let a node in"), tag="header")
        with ui.element("div").classes("form"):
            lasts = Field("A token that is good for", "1 hour", choices=list(TIMES))

            async def token() -> None:
                found = await desk.do(desk.client.post(f"{API}/tokens", {"expires_in": TIMES[lasts.value]}), "")
                if found is not None:
                    _show_token(shown, str(found["token"]))

            button("Make a join token", token, "primary")
        shown = ui.element("div").props("role=status aria-live=polite")
        with ui.element("div").classes("form"):
            waits = Field("A node that waits")
            code = Field("The code on its screen")

            async def approve() -> None:
                given = {"node": waits.value.strip(), "code": code.value.strip()}
                await desk.do(desk.client.post(f"{API}/approve", given), f"{given['node']} is let in.")

            button("Let it in", approve)


def _show_token(place: ui.element, token: str) -> None:
    place.clear()
    with place, ui.element("div").classes("secret"):
        Live(h("p", "On the other box, once:"))
        Live(h("code", f"skerry cluster join --token {token}"))
