"""Whether nats-server could listen where devices are to connect, and whose the port is where it could not."""

import errno

from skerry.broker.config import ServerPlan
from skerry.core.errors import UnavailableError
from skerry.runtime import can_listen, listener_of


def shown(host: str, port: int) -> str:
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def check_free(plan: ServerPlan) -> None:
    """Raise `UnavailableError` when devices could not be listened to: with the address, and whose it is where that can be told."""
    places = [("mqtt", plan.mqtt_host, plan.mqtt_port)]
    if plan.websocket_port:
        places.append(("websocket", plan.websocket_host, plan.websocket_port))
    for key, host, port in places:
        error = can_listen(host, port)
        if error is None:
            continue
        address, mend = shown(host, port), f"set another broker.{key}"
        if error.errno == errno.EADDRINUSE:
            who = listener_of(port) or "another program"
            raise UnavailableError(f"{address} is taken by {who}", mend=f"stop it, or {mend}") from error
        raise UnavailableError(f"cannot listen on {address}: {error.strerror or error}", mend=mend) from error
