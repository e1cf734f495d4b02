"""`python -m skerry.inference`: describes models, in a process of its own: one may take it down."""

import sys
from pathlib import Path

import msgspec

from skerry.inference.catalogue import ModelConfig, Models


class Question(msgspec.Struct):
    """The `[[models]]` tables and the directory that their files are relative to."""

    models: list[ModelConfig]
    base: str


if __name__ == "__main__":
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    sys.stdout.buffer.write(msgspec.json.encode(Models(question.models, Path(question.base)).listing()))
