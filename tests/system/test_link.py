"""A node and its centre on machines of their own: frames are lost, the link is cut or half open, a portal is at the door."""

from pathlib import Path

from tests.system.link_soak import SITE_NAME, ends


def test_over_http_a_wire_that_loses_frames_a_portal_and_a_cut(tmp_path: Path) -> None:
    with ends(tmp_path, "http") as both:
        for fault in (both.rough(), both.behaving("portal", 1.0), both.cut(0.5)):
            with fault:
                both.pump.send(both.site, 40)
        both.pump.send(both.site, 20)
        both.arrived()
        assert both.gate.behave("pass")[1] > 0  # it came through the door
        assert both.net.carried(SITE_NAME) > 0


def test_over_mqtt_a_half_open_link_and_garbage(tmp_path: Path) -> None:
    with ends(tmp_path, "mqtt") as both:
        for fault in (both.silence(1.0), both.behaving("garbage", 1.0)):
            with fault:
                both.pump.send(both.site, 40)
        both.pump.send(both.site, 20)
        both.arrived()
