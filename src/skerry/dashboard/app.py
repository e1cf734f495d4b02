"""The dashboard as a web application: the door before everything, log-in, assets, and nicegui's pages behind them."""

import asyncio
from collections.abc import Awaitable, Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, quote

from fastapi import FastAPI
from nicegui import ui
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from skerry.core.errors import ConfigError, SkerryError
from skerry.dashboard.door import Policy, is_near, refusal, safe_target
from skerry.dashboard.frame import ASSETS, Desk, frame, opened
from skerry.dashboard.login import login_page
from skerry.dashboard.pages import PAGES
from skerry.dashboard.sessions import COOKIE, Session, Sessions
from skerry.dashboard.uploads import Uploads
from skerry.dashboard.watch import Watches
from skerry.http import UnauthorizedError

MOST_FORM = 4096
_KEY = "skerry.session"
_SECURITY = (
    (
        b"content-security-policy",
        (
            b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
            b"img-src 'self' data:; font-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'self'; "
            b"form-action 'self'"
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
_OPEN_PATHS = ("/login", "/assets/")


class Door:
    """ASGI middleware: refuses what `door` refuses, and sends who has not logged in to the log-in."""

    def __init__(self, app: ASGIApp, policy: Policy, sessions: Sessions, watches: Watches) -> None:
        self._app = app
        self._policy = policy
        self._sessions = sessions
        self._watches = watches
        self._nobody = Session("")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in reversed(scope["headers"])}
        socket = scope["type"] == "websocket"
        why = refusal(self._policy, scope.get("method", "GET"), headers, socket)
        session = None if why else await self._session(scope, headers)
        path = scope["path"]
        answer: Response | None = None
        if why:
            answer = PlainTextResponse(f"{why}\n", 403)
        elif session is None and not path.startswith(_OPEN_PATHS):
            page = scope.get("method") == "GET" and "text/html" in headers.get("accept", "")
            entry = f"/login?next={quote(safe_target(path))}"
            answer = RedirectResponse(entry, 303) if page else PlainTextResponse("log in first\n", 401)
        if answer is not None and socket:
            await WebSocketClose(4401, "not let in")(scope, receive, send)
        elif answer is not None:
            await answer(scope, receive, _hardened(send))
        else:
            scope[_KEY] = session
            await self._app(scope, receive, send if socket else _hardened(send))

    async def _session(self, scope: Scope, headers: dict[str, str]) -> Session | None:
        found = self._sessions.find(cookie_of(headers.get("cookie", "")))
        if found is not None:
            if (await self._watches.of(found.token)).barred:  # its token was revoked, or has expired
                self._sessions.end_all_of(found.token)
                return None
            return found
        remote = (scope.get("client") or ("", 0))[0]
        if not is_near(self._policy, remote, headers):
            return None
        watch = await self._watches.of("")
        await watch.look()
        return None if watch.barred else self._nobody


def cookie_of(header: str) -> str:
    """The session's cookie of a `Cookie` header; empty where there is none."""
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _hardened(send: Send) -> Send:
    async def hardened(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *_SECURITY]
        await send(message)

    return hardened


class LogIn:
    """`/login` and `/logout`."""

    def __init__(self, sessions: Sessions, watches: Watches, secure: bool) -> None:
        self._sessions = sessions
        self._watches = watches
        self._secure = secure

    async def show(self, request: Request) -> Response:
        """The form."""
        return HTMLResponse(login_page(target=safe_target(request.query_params.get("next", "/"))), headers=_NO_STORE)

    async def take(self, request: Request) -> Response:
        """A token: a session for a good one, the form again for another."""
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MOST_FORM:
                return PlainTextResponse("that is no log-in\n", 413)
        given = parse_qs(body.decode("latin-1"))
        token, target = given.get("token", [""])[0].strip(), safe_target(given.get("next", ["/"])[0])
        wait = self._sessions.wait(request.client.host if request.client else "")
        if wait:
            words = f"Too many log-ins from this address. Try again in {wait:.0f} s."
            return HTMLResponse(login_page(words, target), 429, {**_NO_STORE, "retry-after": f"{wait:.0f}"})
        trouble = await self._trouble(token)
        if trouble:
            self._sessions.refused += 1
            return HTMLResponse(login_page(trouble, target), 401, _NO_STORE)
        answer = RedirectResponse(target, 303)
        answer.set_cookie(COOKIE, self._sessions.begin(token), httponly=True, samesite="strict", secure=self._secure, path="/")
        return answer

    async def _trouble(self, token: str) -> str:
        if not token:
            return "Give a token."
        try:
            async with asyncio.timeout(10):
                await self._watches.try_out(token)
        except UnauthorizedError:
            return "This token is not known here, or no longer."
        except ConfigError:
            return "This is no token: it is one line, as `skerry token create` shows it."
        except (SkerryError, TimeoutError) as error:
            return str(error) or "The node does not answer."
        return ""

    async def leave(self, request: Request) -> Response:
        """Log out."""
        self._sessions.end(cookie_of(request.headers.get("cookie", "")))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, path="/")
        return answer


_NO_STORE = {"cache-control": "no-store"}


def make_app(policy: Policy, sessions: Sessions, watches: Watches) -> ASGIApp:
    """All of it, for a server."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    entry = LogIn(sessions, watches, policy.secure)
    app.add_route("/login", entry.show, methods=["GET"])
    app.add_route("/login", entry.take, methods=["POST"])
    app.add_route("/logout", entry.leave, methods=["POST"])
    app.add_route("/upload/models/{name}", Uploads(watches, _KEY).take, methods=["POST"])
    app.mount("/assets", StaticFiles(directory=ASSETS))
    for path, title, build in PAGES:
        _add_page(watches, path, title, build)
    ui.run_with(
        app, title="skerry", favicon=ASSETS / "icon.svg", dark=None, language="en-US", tailwind=False, reconnect_timeout=10.0,
        message_history_length=100, show_welcome_message=False, binding_refresh_interval=None,
    )  # fmt: skip
    return Door(app, policy, sessions, watches)


def _add_page(watches: Watches, path: str, title: str, build: Callable[[Desk], Awaitable[None]]) -> None:
    @ui.page(path, response_timeout=20.0)
    async def show(request: Request) -> None:
        session: Session = request.scope[_KEY]
        desk = await opened(session, await watches.of(session.token), request.path_params.get("name", ""))
        await frame(desk, path, desk.name or title, build)
