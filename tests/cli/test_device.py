"""`skerry device`."""

import datetime as dt
import json
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from skerry.trust import SigningKey
from tests.api.fake_view import Serving
from tests.cli.conftest import Call

pytestmark = pytest.mark.usefixtures("node")


def test_add_shows_the_password_once(call: Call, node: Serving) -> None:
    answer = call("device", "add", "pump-1", "--password", "--topics", "sub:events/#,pub:a/{device}", "--topics", "sub:b")
    assert answer.out == "added pump-1\npassword: made-for-pump-1   (not shown again)\n"
    assert node.view.known["pump-1"]["topics"] == ["sub:events/#", "pub:a/{device}", "sub:b"]
    assert json.loads(call("device", "add", "b", "--password", "--json").out)["password"] == "made-for-b"
    assert call("device", "add", "c", "--password", "-q").out == "made-for-c\n"
    for command in (["list"], ["show", "pump-1"]):
        assert "made-for" not in call("device", *command).out


def test_add_to_a_file(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "pump-1.password"
    answer = call("device", "add", "pump-1", "--password", "--out", out)
    assert answer.out == f"added pump-1\npassword: in {out}\n"
    assert out.read_text() == "made-for-pump-1\n"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    answer = call("device", "add", "b", "--password", "--out", tmp_path / "b", "--json")
    assert "password" not in json.loads(answer.out)
    assert "made-for" not in answer.out


def test_a_file_that_is_there_is_kept_and_no_device_made(call: Call, node: Serving, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    answer = call("device", "add", "a", "--password", "--out", "out")
    assert (answer.code, answer.err) == (1, "error: out: cannot be made: File exists; name a new file\n")
    assert (tmp_path / "out").read_text() == "precious"
    assert not node.view.known


def test_no_file_is_left_when_the_device_was_refused(call: Call, tmp_path: Path) -> None:
    call("device", "add", "a", "--password")
    answer = call("device", "add", "a", "--password", "--out", "out")
    assert (answer.code, answer.err) == (1, "error: device 'a' is there already; remove it first\n")
    assert not (tmp_path / "out").exists()


def public_half(file: Path) -> str:
    return SigningKey.from_pem(file.read_bytes()).public_pem()


def test_add_makes_a_pair_and_the_node_learns_the_public_half(call: Call, node: Serving, tmp_path: Path) -> None:
    answer = call("device", "add", "pump-1", "--out", "pump-1.pem")
    assert answer.out == "added pump-1\nprivate key: in pump-1.pem\n"
    file = tmp_path / "pump-1.pem"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert node.view.given["pump-1"] == public_half(file)
    assert file.read_text().splitlines()[1] not in answer.out + answer.err
    answer = call("device", "add", "b", "--out", "b.pem", "--json")
    assert json.loads(answer.out) == {"id": "b", "kind": "key", "revoked": False, "topics": [], "key_file": "b.pem"}
    assert call("device", "add", "c", "--out", "c.pem", "-q").out == ""


def test_a_pair_needs_a_place_for_its_private_half(call: Call, node: Serving) -> None:
    answer = call("device", "add", "a")
    assert answer.code == 2
    assert answer.err == (
        "error: --out: a key pair is made, and its private half needs a place; "
        "add --out FILE, or name a public key with --key, or choose --password\n"
    )
    assert not node.view.known


def test_no_private_key_is_left_when_the_device_was_refused(call: Call, node: Serving, tmp_path: Path) -> None:
    call("device", "add", "a", "--password")
    answer = call("device", "add", "a", "--out", "a.pem")
    assert (answer.code, answer.err) == (1, "error: device 'a' is there already; remove it first\n")
    assert not (tmp_path / "a.pem").exists()
    (tmp_path / "a.pem").write_text("precious")
    assert call("device", "add", "b", "--out", "a.pem").err == "error: a.pem: cannot be made: File exists; name a new file\n"
    assert (tmp_path / "a.pem").read_text() == "precious"
    assert "b" not in node.view.known


def test_a_key_of_the_device_s_own(call: Call, node: Serving, tmp_path: Path) -> None:
    pair = SigningKey.new()
    (tmp_path / "public.pem").write_text(pair.public_pem())
    (tmp_path / "private.pem").write_text(pair.pem())
    (tmp_path / "rubbish.pem").write_text("rubbish")
    assert call("device", "add", "a", "--key", "public.pem").out == "added a\n"
    assert node.view.given["a"] == pair.public_pem()
    answer = call("device", "add", "b", "--key", "private.pem")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == (
        "error: private.pem: that is a private key, which belongs to the device alone; "
        "give the public half: openssl pkey -in KEY -pubout\n"
    )
    assert "rubbish.pem: that is no public key in PEM" in call("device", "add", "b", "--key", "rubbish.pem").err
    assert "none.pem: cannot be read: No such file" in call("device", "add", "b", "--key", "none.pem").err
    assert list(node.view.known) == ["a"]


def test_a_certificate_goes_to_the_node_as_its_fingerprint(call: Call, node: Serving, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")])
    begin = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, begin, begin + dt.timedelta(days=1))
    made = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "both.pem").write_bytes(private + made.public_bytes(Encoding.PEM))
    assert call("device", "add", "a", "--cert", "both.pem").out == "added a\n"
    assert node.view.given["a"] == "sha256:" + made.fingerprint(hashes.SHA256()).hex()
    assert call("device", "add", "b", "--cert", "ca").code == 0
    assert call("device", "add", "c", "--cert", "sha256:" + "00" * 32).code == 0
    assert (node.view.given["b"], node.view.given["c"]) == ("ca", "sha256:" + "00" * 32)
    (tmp_path / "rubbish.pem").write_text("rubbish")
    assert call("device", "add", "d", "--cert", "rubbish.pem").code == 1
    assert [row["kind"] for row in node.view.known.values()] == ["certificate"] * 3


@pytest.mark.parametrize("command", ["add", "rotate"])
@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--password", "--cert", "ca"], "a device has one of them"),
        (["--password", "--key", "k.pem"], "a device has one of them"),
        (["--cert", "ca", "--key", "k.pem"], "a device has one of them"),
        (["--cert", "ca", "--out", "f"], "nothing is made that could be written"),
        (["--key", "k.pem", "--out", "f"], "nothing is made that could be written"),
    ],
)
def test_what_does_not_go_together(call: Call, node: Serving, tmp_path: Path, command: str, options: list[str], why: str) -> None:
    call("device", "add", "a", "--password")
    before = dict(node.view.given)
    answer = call("device", command, "a", *options)
    assert answer.code == 2
    assert why in answer.err
    assert not (tmp_path / "f").exists()
    assert node.view.given == before


def test_rotate(call: Call, node: Serving, tmp_path: Path) -> None:
    call("device", "add", "a", "--password")
    assert call("device", "rotate", "a").out == "rotated a: what it had is out\npassword: made-for-a   (not shown again)\n"
    assert call("device", "rotate", "a", "--password", "-q").out == "made-for-a\n"
    assert call("device", "rotate", "a", "--out", "new.txt").out == "rotated a: what it had is out\npassword: in new.txt\n"
    assert (tmp_path / "new.txt").read_text() == "made-for-a\n"
    (tmp_path / "public.pem").write_text(SigningKey.new().public_pem())
    assert call("device", "rotate", "a", "--key", "public.pem").out == "rotated a: what it had is out\n"
    answer = call("device", "rotate", "a")
    assert (answer.code, "its private half needs a place" in answer.err) == (2, True)
    assert call("device", "rotate", "a", "--out", "a.pem").out == "rotated a: what it had is out\nprivate key: in a.pem\n"
    assert node.view.given["a"] == public_half(tmp_path / "a.pem")
    assert node.view.known["a"]["kind"] == "key"
    assert call("device", "rotate", "a", "--cert", "ca").code == 0
    assert call("device", "rotate", "nobody").err == "error: there is no device 'nobody'; see `skerry device list`\n"
    call("device", "revoke", "a")
    answer = call("device", "rotate", "a", "--password", "--out", "b.pem")
    assert (answer.code, answer.err) == (1, "error: device 'a' is revoked; remove it and add it again\n")
    assert not (tmp_path / "b.pem").exists()


def test_list_show_revoke_remove(call: Call, node: Serving) -> None:
    assert call("device", "list").out == "no devices: add one with `skerry device add ID --password`\n"
    call("device", "add", "pump 1", "--password")
    head, row = call("device", "list").out.splitlines()
    assert head.split() == ["ID", "KIND", "REVOKED", "TOPICS"]
    assert row.split("  ")[0] == "pump 1"
    assert [each["id"] for each in json.loads(call("device", "list", "--json").out)["devices"]] == ["pump 1"]
    assert "kind: password" in call("device", "show", "pump 1").out
    assert call("device", "revoke", "pump 1").out == "revoked pump 1: it is refused from now on\n"
    assert node.view.known["pump 1"]["revoked"] is True
    assert call("device", "remove", "pump 1").out == "removed pump 1\n"
    for verb in ("show", "revoke", "remove"):
        answer = call("device", verb, "pump 1")
        assert (answer.code, answer.err) == (1, "error: there is no device 'pump 1'; see `skerry device list`\n")


def test_a_name_cannot_drive_the_terminal(call: Call, node: Serving) -> None:
    call("device", "add", "a\x1b[31m\n", "--password")
    assert "\x1b" not in call("device", "list").out
    assert "a\\x1b[31m\\n" in call("device", "list").out
    assert call("device", "remove", "a\x1b[31m\n").code == 0
