"""The kinds of centre: an MQTT broker, an HTTP endpoint, a nats-server, a directory."""

from skerry.uplink.targets.target import HeldUpError, Place, TakeCommand, Target, TooLargeError

__all__ = ["HeldUpError", "Place", "TakeCommand", "Target", "TooLargeError", "open_target"]


def open_target(place: Place, take: TakeCommand) -> Target:
    """The target of a kind; it connects with its first envelope. Raises `ConfigError` for an URL that will not do."""
    if place.kind == "mqtt":  # each brings libraries that the others do not need
        from skerry.uplink.targets.mqtt import MqttTarget

        return MqttTarget(place, take)
    if place.kind == "http":
        from skerry.uplink.targets.http import HttpTarget

        return HttpTarget(place, take)
    if place.kind == "nats":
        from skerry.uplink.targets.nats import NatsTarget

        return NatsTarget(place, take)
    from skerry.uplink.targets.file import FileTarget

    return FileTarget(place)
