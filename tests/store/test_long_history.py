"""A few days of a few channels, as `make soak` has a month of a hundred."""

from pathlib import Path

from tests.store.long_history import DAY, Keep, LongHistory


def test_days_of_history_are_what_numpy_makes_of_the_samples_and_stay_the_same_size(tmp_path: Path) -> None:
    long = LongHistory(tmp_path, 3, 2, Keep(DAY, 2 * DAY, 2 * DAY))
    with long.store:
        for day in range(5):
            long.live(day)
            if day % 2 == 0:
                long.check(day // 2 % 2)
        long.check_flat()
    assert long.samples > 5 * 2 * 80_000
    assert long.queries > 300
