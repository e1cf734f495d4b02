"""`skerry connector`: what is brought in from other systems and out to them."""

from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.session import Paper, clean, number, session
from skerry.core.errors import ConfigError, RejectedError, SkerryError, suggestion

if TYPE_CHECKING:
    from skerry.config import NodeConfig
    from skerry.connector import ConnectorSpec

app = typer.Typer(help="What is brought in from other systems, and out to them.", no_args_is_help=True)
TEST_S = 30.0


@app.command("list")
def list_(context: typer.Context) -> None:
    """All connectors: how they stand, what they moved, and what they refused."""
    here = session(context)
    answer = here.client().get("/api/v1/connectors")

    def draw(paper: Paper) -> None:
        rows = answer["connectors"]
        if not rows:
            paper.line("no connectors: see [[connectors]] in docs/connectors.md")
            return
        table = [
            [
                row["name"], row["kind"], row["direction"], row["state"], number(row["moved"]),
                number(sum(row["refused"].values())), number(row["errors"]), clean(row["last"]),
            ]
            for row in rows
        ]  # fmt: skip
        right = ("moved", "refused", "errors")
        paper.table(("name", "kind", "direction", "state", *right, "last"), table, right=right)
        for row in rows:
            if row["trouble"]:
                paper.line(f"{clean(row['name'])}: {clean(row['trouble'])}")

    here.show(answer, draw)


@app.command()
def test(context: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", help="Which connector.")]) -> None:
    """Look whether its other side is there, now and from this shell; nothing is moved. Needs no node. Exit 1 where it is not."""
    here = session(context)
    config = here.config(with_models=False)
    import asyncio  # late: --help goes without

    sentence = asyncio.run(_look(config, _find(config, name)))
    here.show({"name": name, "ok": True, "sentence": sentence}, lambda paper: paper.line(clean(sentence)))


def _find(config: "NodeConfig", name: str) -> "ConnectorSpec":
    for spec in config.connectors:
        if spec.name == name:
            return spec
    known = [spec.name for spec in config.connectors]
    raise ConfigError(f"there is no connector {name!r}{suggestion(name, known)}", allowed=", ".join(known) or "none")


async def _look(config: "NodeConfig", spec: "ConnectorSpec") -> str:
    import asyncio  # late: --help goes without

    from skerry.connector import Place, open_connector  # late: it loads the kind's library

    connector = open_connector(spec, Place(spec.name, config.node.name, config.node.site, config.base, data=config.data_dir))
    try:
        async with asyncio.timeout(TEST_S):
            return await connector.test()
    except TimeoutError as error:
        raise RejectedError(f"no answer within {TEST_S:g} s", where=f"connector {spec.name}") from error
    except SkerryError:
        raise
    except OSError as error:
        raise RejectedError(f"{error.strerror or error}", where=f"connector {spec.name}") from error
    finally:
        close = getattr(connector, "close", None)
        if close is not None:
            await close()
