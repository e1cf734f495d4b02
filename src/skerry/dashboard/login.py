"""The log-in page: a form without any script."""

from skerry.dashboard.html import Html, h


def login_page(trouble: str = "", target: str = "/", where: str = "") -> str:
    """The whole document."""
    form = h(
        "form",
        h("h1", "skerry"),
        h("p", "This node asks for a token of its API.", class_="soft"),
        h("p", trouble, class_="trouble", role="alert", id="trouble") if trouble else None,
        h("label", "Token", for_="token"),
        h(
            "input", id="token", name="token", type="password", autocomplete="current-password", required=True, autofocus=True,
            aria_describedby="trouble" if trouble else None,
        ),
        h("input", type="hidden", name="next", value=target),
        h("button", "Log in", type="submit", class_="button primary"),
        h("p", "No token yet? On the node run: ", h("code", "skerry token create me --scope operate"), class_="soft"),
        method="post", action="/login",
    )  # fmt: skip
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("title", "Log in · skerry"),
        Html('<link rel="icon" href="/assets/icon.svg"><link rel="stylesheet" href="/assets/style.css">'),
        Html('<script src="/assets/theme.js"></script>'),
    )
    return "<!doctype html>" + h("html", head, h("body", h("main", form, class_="login")), lang="en")
