"""Rubbish at full speed: the others' events come all the same, and soon; the rubbish is counted, kept, and can be looked at."""

from pathlib import Path

from tests.fixtures.node import RunningNode, until
from tests.system.accounts import ONCE
from tests.system.flood import TOPIC
from tests.system.rubbish import EACH, beside_rubbish

BOUND, SLACK_MS = 5.0, 150.0
"""Far above what is to be reached, for a machine that has other work; the soak prints the figure itself."""


def test_rubbish_at_full_speed_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    with RunningNode(tmp_path, EACH) as node:
        found = beside_rubbish(node)
        until(lambda: node.pipeline(ONCE)["ledger"]["received"] == found.good + found.bad, 20, "all is received")
        books = node.pipeline(ONCE)["ledger"]
        assert (books["scored"], books["difference"]) == (found.good, 0)
        assert sum(books["dead_letters"].values()) == found.bad > 1000
        assert set(books["dead_letters"]) == {"undecodable", "wrong-shape"}
        letters = node.deadletters(ONCE)
        assert len(letters) == found.bad
        assert {letter["topic"] for letter in letters} == {TOPIC}
        assert min(found.loud_ms) <= BOUND * max(found.quiet_ms) + SLACK_MS
