"""Ending the connections of one device: asked of the server over its system account."""

import json

from skerry.broker.config import SYSTEM
from skerry.broker.wire import WireClient


async def kick(host: str, port: int, password: str, device: str) -> int:
    """End all MQTT connections that a device has; answers how many. Raises `UnavailableError` when the server does not answer."""
    client = await WireClient.connect(host, port, SYSTEM, password, "kick")
    try:
        question = json.dumps({"auth": True, "limit": 100_000}).encode()
        answer = json.loads((await client.request(b"$SYS.REQ.SERVER.PING.CONNZ", question))[3])
        server = answer["server"]["id"]
        found = answer["data"]["connections"] or []
        mine = [one["cid"] for one in found if device in (one.get("name_tag"), one.get("authorized_user"))]
        for connection in mine:
            await client.request(f"$SYS.REQ.SERVER.{server}.KICK".encode(), json.dumps({"cid": connection}).encode())
    finally:
        client.close()
    return len(mine)
