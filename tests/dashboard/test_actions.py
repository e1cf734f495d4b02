"""What people do on the pages, in a real browser on a real node: each reaches the node, and what fails says why."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.dashboard.conftest import ON, page_of
from tests.dashboard.test_pages import AUDIT, PIPELINE, Visit, publish
from tests.fixtures.models import adding
from tests.fixtures.node import RunningNode, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CLUSTER = {"SKERRY_CLUSTER__ENABLED": "true", "SKERRY_CLUSTER__LISTEN": "127.0.0.1:0"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with RunningNode(tmp_path_factory.mktemp("node"), PIPELINE, env={**ON, **CLUSTER}) as running:
        publish(running, [1, 1, 9, 9])
        until(lambda: running.pipeline("level")["events"], 20, "the alarm")
        yield running


def test_a_pipeline_is_paused_and_its_dead_letters_are_retried_and_forgotten(browser: "Browser", node: RunningNode) -> None:
    visit = Visit(browser, page_of(node))
    page = visit.go("/pipelines/level")
    letters = page.get_by_role("region", name="Dead letters")
    assert "rubbish" in letters.inner_text()
    way = page.get_by_role("list", name="The way of a message")
    assert "devices/+/level" in way.inner_text()
    assert "score above 5" in way.inner_text()
    scores = page.get_by_role("region", name="Scores")
    label = str(scores.get_by_role("img").first.get_attribute("aria-label"))
    assert label == "Scores of the last windows: tank<1> 9 score, fires at 5 5 score, clears at 2 2 score"
    page.get_by_role("button", name="Pause").click()
    until(lambda: node.pipeline("level")["state"] == "paused", 20, "it is paused")
    page.get_by_text("they wait in the log").first.wait_for()
    page.get_by_role("button", name="Resume").click()
    until(lambda: node.pipeline("level")["state"] == "running", 20, "it goes on")
    page.get_by_role("button", name="Retry dead letters").click()
    until(lambda: sum(node.pipeline("level")["ledger"]["dead_letters"].values()) >= 1, 20, "it is dead again")
    page.get_by_role("button", name="Forget dead letters").click()
    page.get_by_role("button", name="Cancel").wait_for()
    page.keyboard.press("Escape")  # means no
    page.get_by_role("button", name="Cancel").wait_for(state="detached")
    assert node.deadletters("level")
    publish(node, [1])
    until(lambda: len(node.deadletters("level")) == 2, 20, "another one")
    box = letters.get_by_role("checkbox").nth(1)
    box.focus()
    page.keyboard.press("Space")
    chosen = box.get_attribute("value")
    page.get_by_role("button", name="Look inside").click()
    page.get_by_role("region", name=f"Inside {chosen}").get_by_text("rubbish").first.wait_for()
    assert page.evaluate(AUDIT) == []
    page.get_by_role("button", name="Forget dead letters").click()
    page.get_by_text("Forget 1 chosen dead letter?").wait_for()
    page.get_by_label("Why, for the audit log").fill("a sensor that was taken out")
    page.get_by_role("button", name="Forget them").click()
    until(lambda: len(node.deadletters("level")) == 1, 20, "one is forgotten")
    assert chosen not in [row["id"] for row in node.deadletters("level")]
    with node.client() as client:
        line = client.get("/api/v1/audit", {"text": "dead letters dropped"})["entries"][-1]
    assert (line["reason"], line["ids"], line["name"], line["messages"]) == ("a sensor that was taken out", chosen, "level", 1)
    page.get_by_label("Reason").select_option("undecodable")
    page.get_by_role("button", name="Forget dead letters").click()
    page.get_by_text("Forget all dead letters of undecodable?").wait_for()
    page.get_by_role("button", name="Forget them").click()
    until(lambda: not node.deadletters("level"), 20, "they are forgotten")
    assert visit.faults == []
    visit.close()


def test_a_device_is_added_with_a_credential_to_download_and_revoked(browser: "Browser", node: RunningNode) -> None:
    visit = Visit(browser, page_of(node))
    page = visit.go("/devices")
    page.get_by_label("Device id").fill("pump-7")
    page.get_by_role("button", name="Add with a password").click()
    with page.expect_download() as awaited:
        page.get_by_role("button", name="Download it").click()
    password = awaited.value.path().read_text().strip()
    assert awaited.value.suggested_filename == "pump-7.password"
    assert len(password) >= 16
    page.get_by_role("link", name="pump-7").wait_for()
    page.get_by_role("button", name="Add with a password").click()  # it is there already
    page.get_by_text("there is a device").or_(page.get_by_text("already")).first.wait_for()

    page = visit.go("/devices/pump-7")
    page.get_by_role("button", name="Revoke").click()
    page.get_by_role("button", name="Revoke it").click()
    page.locator(".pill", has_text="revoked").wait_for()
    with node.client() as client:
        assert client.get("/api/v1/devices/pump-7")["revoked"]
    assert visit.faults == []
    visit.close()


def test_history_is_chosen_zoomed_compared_and_exported(browser: "Browser", node: RunningNode) -> None:
    visit = Visit(browser, page_of(node))
    with node.client() as client:
        names = until(lambda: [row["name"] for row in client.get("/api/v1/series")["series"]], 20, "series")
    chosen = next(name for name in names if name.endswith("/level"))
    other = next(name for name in names if name != chosen)
    page = visit.go("/data")
    page.get_by_text("Nothing is chosen.").wait_for()
    page.get_by_role("button", name=chosen, exact=True).click()
    plot = page.get_by_role("region", name="Plot")
    plot.get_by_role("img").first.wait_for()
    assert chosen in str(plot.get_by_role("img").first.get_attribute("aria-label"))
    page.get_by_label("Stretch").select_option("5 minutes")
    plot.get_by_text("all samples").wait_for()
    page.get_by_role("button", name=other, exact=True).click()
    page.get_by_label("Show").select_option("each in its own plot")
    until(lambda: plot.locator("figure, .empty").count() == 2, 20, "two plots")
    page.get_by_role("region", name="Alarms meanwhile").get_by_text("tank<1> firing: level 9.000").wait_for()
    page.locator("select").nth(2).select_option("left out")
    page.get_by_role("region", name="Alarms meanwhile").wait_for(state="detached")
    with page.expect_download() as awaited:
        page.get_by_role("button", name="Export as CSV").click()
    lines = awaited.value.path().read_text().splitlines()
    assert lines[0] == "time,series,value"
    assert [line.rsplit(",", 1)[1] for line in lines if f'"{chosen}"' in line][:4] == ["1.0", "1.0", "9.0", "9.0"]
    page.get_by_role("button", name="Earlier").click()
    plot.get_by_text("nothing was kept").or_(plot.get_by_role("img")).first.wait_for()
    assert page.evaluate(AUDIT) == []
    assert visit.faults == []
    visit.close()


def test_an_alarm_is_acknowledged_commented_on_and_shelved(browser: "Browser", node: RunningNode) -> None:
    visit = Visit(browser, page_of(node))
    page = visit.go("/alarms")
    page.get_by_role("link", name="tank<1>").first.click()
    done = page.get_by_role("region", name="What was done")
    done.get_by_text("Nobody has done anything").wait_for()
    page.get_by_label("Comment (optional)").fill("on my way")
    page.get_by_role("button", name="Acknowledge").click()
    done.get_by_text("on my way").wait_for()
    page.get_by_label("Shelve for").select_option("8 hours")
    page.get_by_role("button", name="Shelve", exact=True).click()
    done.get_by_text("Shelved").wait_for()
    with node.client() as client:
        row = client.get("/api/v1/alarms")["alarms"][0]
    assert (row["acknowledged"]["by"], row["acknowledged"]["comment"]) == ("loopback", "on my way")
    assert row["shelved"]["until"] > row["shelved"]["at"]
    assert page.evaluate(AUDIT) == []
    page = visit.go("/")
    page.get_by_text("No alarm is firing.").wait_for()  # what is shelved is out of sight
    assert visit.faults == []
    visit.close()


def test_the_log_and_the_audit_log_are_filtered_and_held(browser: "Browser", node: RunningNode) -> None:
    with node.client() as client:
        client.post("/api/v1/devices", {"id": "heard-of"})
    visit = Visit(browser, page_of(node))
    page = visit.go("/log")
    log = page.get_by_role("region", name="Log", exact=True)
    log.get_by_text("the dashboard is on http").first.wait_for()
    page.get_by_label("Part").select_option("dashboard")
    until(lambda: set(log.locator("tbody td:nth-child(3)").all_inner_texts()) == {"dashboard"}, 30, "lines of that part alone")
    page.get_by_label("Which log").select_option("the audit log: who got in, who changed what")
    audit = page.get_by_role("region", name="Audit log")
    page.get_by_label("Device or token").fill("heard-of")
    until(lambda: audit.locator("tbody tr").count() == 1, 30, "one line")
    assert "device added" in audit.inner_text()
    page.get_by_role("button", name="Hold still").click()
    audit.get_by_text("held: 1 lines").wait_for()
    with node.client() as client:
        client.post("/api/v1/devices/heard-of/revoke")
    page.wait_for_timeout(2500)
    assert "device revoked" not in audit.inner_text()
    page.get_by_role("button", name="Follow").click()
    audit.get_by_text("device revoked").wait_for()
    assert page.evaluate(AUDIT) == []
    assert visit.faults == []
    visit.close()


def test_a_model_is_uploaded_activated_and_rolled_back(browser: "Browser", node: RunningNode, tmp_path: Path) -> None:
    visit = Visit(browser, page_of(node))
    page = visit.go("/models")
    page.get_by_role("textbox", name="Model").fill("adder")
    page.get_by_role("button", name="Upload").click()
    page.get_by_text("choose a file first").wait_for()
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"no model")
    for at, file in enumerate((wrong, adding(tmp_path / "1.onnx", 1.0), adding(tmp_path / "2.onnx", 2.0))):
        page.get_by_label("ONNX file").set_input_files(file)
        page.get_by_role("button", name="Upload").click()
        told = f"adder@{at} is staged" if at else "upload.onnx"
        page.locator(".q-notification", has_text=told).first.wait_for(timeout=60_000)
    page.get_by_role("link", name="adder@2").click()
    page.get_by_role("heading", level=1, name="adder").wait_for()
    for version in ("1", "2"):
        page.locator("select").select_option(version)
        page.get_by_role("button", name="Activate").click()
        page.get_by_text(f"active: {version}", exact=True).wait_for(timeout=60_000)
    page.get_by_role("button", name="Roll back").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    page.get_by_text("active: 1", exact=True).wait_for()
    with node.client() as client:
        assert client.get("/api/v1/models/adder")["active"] == "1"
        noted = client.get("/api/v1/audit", {"name": "adder"})["entries"]
    assert [entry["event"] for entry in noted[:3]] == ["model added", "model added", "model activated"]
    assert page.evaluate(AUDIT) == []
    assert visit.faults == []
    visit.close()


def test_a_node_of_a_cluster_is_drained_and_resumed_and_another_may_join(browser: "Browser", node: RunningNode) -> None:
    visit = Visit(browser, page_of(node))
    page = visit.go("/cluster")
    members = page.get_by_role("region", name="Members")
    members.get_by_text("level/0").wait_for()
    assert "leads" in members.inner_text()
    page.get_by_role("button", name="Make a join token").click()
    page.get_by_text("skerry cluster join --token").wait_for()
    page.get_by_role("button", name="Drain").click()
    page.get_by_role("button", name="Drain it").click()
    members.get_by_text("drained").wait_for()
    page.get_by_role("region", name="Changes").get_by_text("Maintenance").wait_for()
    page.get_by_role("button", name="Resume").click()
    members.get_by_text("Online").wait_for()
    members.get_by_text("level/0").wait_for()
    assert page.evaluate(AUDIT) == []
    assert visit.faults == []
    visit.close()
