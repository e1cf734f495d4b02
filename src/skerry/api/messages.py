"""`/api/v1/messages`: what devices sent, as the log has it until all have read it."""

from skerry.api import arguments
from skerry.api.endpoints import API, Endpoint, Parameter
from skerry.api.view import NodeView
from skerry.core.errors import ConfigError, RejectedError
from skerry.http import Request, Response, json_response
from skerry.pipeline import check_filter

_QUERY = (
    Parameter("topic", "only on this MQTT topic filter; all by default"),
    Parameter("since", "arrived not before this time: RFC 3339, or Unix seconds or milliseconds"),
    Parameter("limit", "rows of a page, 1 to 1000", "integer"),
    Parameter("after", "the `next` of the page before"),
)


class MessageHandlers:
    """The endpoint."""

    def __init__(self, view: NodeView) -> None:
        self._view = view

    def endpoints(self) -> list[Endpoint]:
        """For routes and OpenAPI."""
        return [Endpoint("GET", f"{API}/messages", self.messages, "Messages of devices that the log still has", _QUERY)]

    async def messages(self, request: Request) -> Response:
        given = arguments.query(request, [each.name for each in _QUERY])
        topic = given.get("topic") or "#"
        try:
            check_filter(topic)
        except ConfigError as error:
            raise RejectedError(str(error), where="topic", mend="such as devices/+/vibration") from error
        since = arguments.moment_of(given.get("since"), "since")
        page = await self._view.messages(topic, since, arguments.limit_of(given), given.get("after"))
        return json_response(page)
