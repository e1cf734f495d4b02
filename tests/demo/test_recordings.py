"""Recordings: read as the layout says, replayed in time, and every fault of a file named with its place."""

from pathlib import Path

import pytest

from skerry.core.errors import ConfigError
from skerry.demo.faults import NORMAL, Episode
from skerry.demo.recordings import RIG_VALUES, labelled_episodes, read_runs, replay

HEAD = ";".join(["datetime", *RIG_VALUES, "anomaly", "changepoint"])
SECOND = 1_000_000


def line(second: int, anomaly: float = 0.0, values: str = "0.1;0.2;1.5;0.4;80.0;26.5;230.0;32.0") -> str:
    return f"2021-01-01 00:00:{second:02d};{values};{anomaly};0.0"


def write(root: Path, name: str, *lines: str, head: str = HEAD) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, *lines, ""]), encoding="utf-8")
    return path


def test_runs_come_folder_by_folder_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("valve1/10.csv", "valve1/9.csv", "other/2.csv", "valve2/0.csv"):
        write(tmp_path, name, line(0))
    (tmp_path / "README.md").write_text("not a recording")
    runs = read_runs(tmp_path)
    assert [run.name for run in runs] == ["other/2", "valve1/9", "valve1/10", "valve2/0"]
    assert [run.device for run in runs][:2] == ["other-2", "valve1-9"]


def test_a_row_has_its_time_its_values_and_its_label(tmp_path: Path) -> None:
    write(tmp_path, "valve1/0.csv", line(5), line(6, 1.0, "1;2;3;4;5;6;7;-8.5e-1"))
    (run,) = read_runs(tmp_path)
    assert run.rows[0].ts_us == 1_609_459_205 * SECOND
    assert run.rows[0].values == (0.1, 0.2, 1.5, 0.4, 80.0, 26.5, 230.0, 32.0)
    assert [row.anomaly for row in run.rows] == [False, True]
    assert run.rows[1].values[-1] == -0.85


def test_fault_free_files_need_no_labels(tmp_path: Path) -> None:
    head = ";".join(["datetime", *RIG_VALUES])
    write(tmp_path, "anomaly-free/anomaly-free.csv", "2021-01-01 00:00:00;1;2;3;4;5;6;7;8", head=head)
    (run,) = read_runs(tmp_path)
    assert not run.rows[0].anomaly


def test_columns_may_come_in_another_order_and_with_others_between(tmp_path: Path) -> None:
    head = ";".join(["anomaly", "note", *reversed(RIG_VALUES), "datetime"])
    write(tmp_path, "other/1.csv", "1.0;x;8;7;6;5;4;3;2;1;2021-01-01 00:00:00", head=head)
    (run,) = read_runs(tmp_path)
    assert run.rows[0].values == (1, 2, 3, 4, 5, 6, 7, 8)
    assert run.rows[0].anomaly


def test_replay_is_due_as_recorded_and_faster_with_speed(tmp_path: Path) -> None:
    write(tmp_path, "valve1/0.csv", line(0), line(1), line(4, 1.0))
    (run,) = read_runs(tmp_path)
    readings = list(replay(run, 1_000 * SECOND))
    assert [reading.ts_us for reading in readings] == [1_000 * SECOND, 1_001 * SECOND, 1_004 * SECOND]
    assert [reading.fault for reading in readings] == [NORMAL, NORMAL, "valve1"]
    assert readings[0].device == "valve1-0"
    assert readings[0].values["Volume Flow RateRMS"] == 32.0
    fast = list(replay(run, 0, speed=10))
    assert [reading.ts_us for reading in fast] == [0, SECOND // 10, 4 * SECOND // 10]


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_speed_is_refused(tmp_path: Path, speed: float) -> None:
    write(tmp_path, "valve1/0.csv", line(0))
    with pytest.raises(ConfigError, match="--speed"):
        next(replay(read_runs(tmp_path)[0], 0, speed))


def test_labelled_rows_become_episodes(tmp_path: Path) -> None:
    labels = [0, 1, 1, 0, 0, 1, 1]
    write(tmp_path, "valve1/0.csv", *(line(second, label) for second, label in enumerate(labels)))
    readings = list(replay(read_runs(tmp_path)[0], 0))
    assert labelled_episodes(readings) == [
        Episode("valve1-0", "valve1", SECOND, 3 * SECOND),
        Episode("valve1-0", "valve1", 5 * SECOND, 6 * SECOND + 1),
    ]
    assert labelled_episodes(readings[:1]) == []
    assert labelled_episodes([]) == []


def test_a_missing_directory_names_itself_and_the_mend(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist") as caught:
        read_runs(tmp_path / "nowhere")
    assert caught.value.where == str(tmp_path / "nowhere")
    assert "valve1/" in caught.value.mend


def test_a_file_instead_of_a_directory_and_an_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a directory"):
        read_runs(write(tmp_path, "valve1/0.csv", line(0)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no recordings"):
        read_runs(tmp_path / "empty")


@pytest.mark.parametrize("lost", ["datetime", "Current", "anomaly"])
def test_a_missing_column_is_named_with_the_file(tmp_path: Path, lost: str) -> None:
    path = write(tmp_path, "valve1/3.csv", head=HEAD.replace(f"{lost};", ""))
    with pytest.raises(ConfigError, match=f"lacks the column {lost}") as caught:
        read_runs(tmp_path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (line(1, values="1;2;x;4;5;6;7;8"), "Current is 'x', not a number"),
        (line(1, values="1;2;;4;5;6;7;8"), "Current is '', not a number"),
        (line(1, values="1;2;nan;4;5;6;7;8"), "Current is 'nan', not a number"),
        ("2021-01-01 00:00:01;1;2", "Current is None, not a number"),
        (line(1).replace("2021-01-01", "yesterday"), "datetime is 'yesterday 00:00:01'"),
        ("2020-01-01 00:00:00;1;2;3;4;5;6;7;8;0;0", "time goes back"),
    ],
)
def test_a_bad_line_is_named_with_file_and_number(tmp_path: Path, second: str, message: str) -> None:
    path = write(tmp_path, "valve1/3.csv", line(0), second)
    with pytest.raises(ConfigError, match=message) as caught:
        read_runs(tmp_path)
    assert caught.value.where == f"{path}:3"


def test_a_file_without_rows_or_of_another_kind(tmp_path: Path) -> None:
    path = write(tmp_path, "valve1/0.csv")
    with pytest.raises(ConfigError, match="holds no rows"):
        read_runs(tmp_path)
    path.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_runs(tmp_path)
