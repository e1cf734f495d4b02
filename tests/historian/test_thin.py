"""What is not to be kept for now, over a real nats-server: it is in the roll-ups, once, over a kill too."""

from pathlib import Path

import pytest

from skerry.broker import WireClient
from skerry.core.clock import SystemClock
from skerry.historian import Place
from skerry.historian.intake import Intake
from tests.fixtures.frames import frame, sample, spec_of
from tests.fixtures.nats import NatsServer, until
from tests.historian import test_recorder
from tests.historian.rig import SECOND
from tests.historian.test_recorder import Recording, publish

_quick = test_recorder._quick
MINUTE = 60 * SECOND


def rest(found: Recording, server: NatsServer, *pipelines: str) -> None:
    found.recorder.place(Place("127.0.0.1", server.port, "agent", "pw", list(pipelines)))


def counted(found: Recording) -> dict[int, float]:
    times, counts = found.recorder.archive.query("d/v/x", 0, SystemClock().now() + 3600 * SECOND, MINUTE, "count")
    return dict(zip(times.tolist(), counts.tolist(), strict=True))


@pytest.mark.asyncio
async def test_a_pipeline_s_samples_are_rolled_up_and_not_kept(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    found = Recording(server, tmp_path)
    wanted = await publish(client, 0, 60)
    await until(lambda: found.cursor == 60)
    rest(found, server, "p")
    gone = await publish(client, 60, 120)
    await until(lambda: found.cursor == 180)
    assert found.rows() == wanted
    whole = dict[int, float]()
    for time in (*wanted, *gone):
        whole[time // MINUTE * MINUTE] = whole.get(time // MINUTE * MINUTE, 0.0) + 1
    assert counted(found) == whole
    await found.die()
    found = Recording(server, tmp_path)
    rest(found, server, "p")
    await until(lambda: found.recorder.report().samples >= 180)
    await until(lambda: found.recorder._intake.count == found.recorder.archive.waiting == 0)
    assert found.rows() == wanted
    assert counted(found) == whole, "it was read again, and counts once"
    rest(found, server)
    wanted |= await publish(client, 180, 20)
    await until(lambda: found.cursor == 200)
    assert found.rows() == wanted
    await found.close()


def test_only_series_of_the_named_pipelines_are_thin() -> None:
    found = Intake([spec_of(sinks=["history"])], [], [], 100)
    found.thin = frozenset(["p"])
    found.take([frame(1, sample(1_795_545_000, 1))])
    assert [each.kept for each in found.hand_over().values()] == [False]
    found.thin = frozenset(["q"])
    found.take([frame(2, sample(1_795_545_001, 1))])
    assert [each.kept for each in found.hand_over().values()] == [True]
