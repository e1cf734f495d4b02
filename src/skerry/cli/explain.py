"""`skerry explain`: what a word means that skerry prints, why it comes about, and what to do."""

from typing import Annotated, NamedTuple

import typer

from skerry.cli.session import Paper, clean, session
from skerry.core.errors import RejectedError, suggestion

_PREFIX = "urn:skerry:"


class Word(NamedTuple):
    """One meaning of one word; `also`: another name of it, such as that of the class of an error."""

    word: str
    kind: str
    what: str
    why: str
    mend: str
    also: str = ""


def words() -> list[Word]:
    """All meanings of all words, kind by kind, out of words.toml."""
    import tomllib  # late: --help goes without
    from importlib.resources import files

    tables = tomllib.loads((files("skerry.cli") / "words.toml").read_text(encoding="utf-8"))
    return [Word(word, kind, **told) for kind, group in tables.items() for word, told in group.items()]


def meanings(word: str) -> list[Word]:
    """What the word means, in any case, also as `urn:skerry:…` or a class of skerry.errors. Raises `RejectedError`."""
    wanted, known = word.strip().removeprefix(_PREFIX).lower(), words()
    found = [each for each in known if wanted in (each.word, each.also.lower())]
    if not found:
        near = suggestion(wanted, {each.word for each in known})
        raise RejectedError(f"is no word that skerry prints as a reason, state, exit code or kind of error{near}",
                            where=repr(word), mend="`skerry explain` lists them")  # fmt: skip
    return found


def explain(
    context: typer.Context,
    word: Annotated[str, typer.Argument(metavar="[WORD]", help="Such as late, bad-token, pending, 3 or ConfigError.")] = "",
) -> None:
    """Say what a word means that skerry prints, why it comes about, and what to do; without one, list them."""
    found = meanings(word) if word else words()

    def draw(paper: Paper) -> None:
        if not word:
            paper.table(["word", "of", "what"], [[each.word, each.kind, each.what] for each in found])
            return
        for number, each in enumerate(found):
            if number:
                paper.line()
            paper.line(clean(f"{each.kind} {each.word}: {each.what}"))
            paper.line(clean(f"  why:  {each.why}"))
            paper.line(clean(f"  mend: {each.mend}"))

    session(context).show({"words": [{name: value for name, value in each._asdict().items() if value} for each in found]}, draw)
