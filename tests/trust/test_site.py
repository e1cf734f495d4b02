"""The site's certificates on disk."""

import stat
from pathlib import Path

import pytest

from skerry.core.errors import RejectedError, UnavailableError
from skerry.trust import SiteAuthority, certificate_facts, certificate_names
from skerry.trust.certificates import DAY, key_fits, signed_by
from tests.fixtures.certificates import NAMES, NOW, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "tls", NOW)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_private_and_certificates_are_not(site: Site) -> None:
    assert [mode(site.directory / name) for name in ("ca.key", "server.key")] == [0o600, 0o600]
    assert [mode(site.directory / name) for name in ("ca.pem", "server.pem")] == [0o644, 0o644]
    assert mode(site.directory) == 0o700
    assert sorted(path.name for path in site.directory.iterdir()) == ["ca.key", "ca.pem", "server.key", "server.pem"]


def test_an_authority_is_made_once(site: Site) -> None:
    before = site.ca.read_bytes()
    with pytest.raises(RejectedError, match="is there already; devices trust it: go on with it"):
        site.authority.create("quay", NOW)
    assert site.ca.read_bytes() == before
    assert SiteAuthority(site.directory).exists


def test_without_an_authority_nothing_is_signed(tmp_path: Path) -> None:
    empty = SiteAuthority(tmp_path)
    assert not empty.exists
    with pytest.raises(RejectedError, match="there is no site CA here; make one with skerry init --tls"):
        empty.issue_device("pump-1", NOW, 30)
    with pytest.raises(UnavailableError, match="cannot be used: No such file"):
        empty.facts()


def test_an_authority_whose_key_is_anothers_signs_nothing(site: Site, tmp_path: Path) -> None:
    other = Site(tmp_path / "other", NOW)
    (site.directory / "ca.key").write_bytes((other.directory / "ca.key").read_bytes())
    with pytest.raises(RejectedError, match=r"ca\.key does not fit ca\.pem; restore both from a backup"):
        site.authority.load()
    (site.directory / "ca.key").write_text("torn")
    with pytest.raises(RejectedError, match=r"ca\.pem or ca\.key is no private key in PEM form; restore both"):
        site.authority.load()


def test_a_server_certificate_and_its_key_belong_together(site: Site) -> None:
    first = site.cert.read_bytes()
    site.renew()
    assert site.cert.read_bytes() != first
    assert key_fits(site.cert.read_bytes(), site.key.read_bytes())
    assert signed_by(site.cert.read_bytes(), site.ca.read_bytes())


def test_a_renewal_keeps_host_names_and_lets_old_addresses_go(site: Site) -> None:
    site.renew(("rock", "10.0.0.7", "box1.plant.example"))
    site.authority.renew(("rock", "rock.local", "10.0.0.8"), NOW)
    assert certificate_facts(site.cert.read_bytes()).names == ("rock", "rock.local", "box1.plant.example", "10.0.0.8")


def test_a_devices_certificate_is_not_kept(site: Site) -> None:
    before = sorted(site.directory.iterdir())
    assert certificate_names(site.authority.issue_device("pump-1", NOW, 30).certificate) == ("pump-1",)
    assert sorted(site.directory.iterdir()) == before


def test_when_a_certificate_is_due(site: Site) -> None:
    due, names = site.authority.due, NAMES
    assert due(names, NOW) == ""
    assert due((*names, "10.0.0.9"), NOW) == "this machine is 10.0.0.9 too"
    assert due(names, NOW + 790 * DAY) == ""
    assert due(names, NOW + 800 * DAY) == "it ends in 24 days"
    assert due(names, NOW + 830 * DAY) == "it has ended"


def test_a_clock_that_must_be_wrong_is_no_reason_to_sign(site: Site) -> None:
    for clock in (0, NOW - 40 * DAY, NOW + 4000 * DAY):
        assert site.authority.due((*NAMES, "new"), clock) == ""


def test_in_its_authoritys_last_month_a_certificate_is_not_signed_again_and_again(site: Site) -> None:
    late = NOW + 3640 * DAY
    site.authority.renew(NAMES, late)
    assert site.authority.due(NAMES, late + DAY) == ""


@pytest.mark.parametrize("name", ["server.pem", "server.key"])
def test_files_that_are_gone_torn_or_mixed_up_are_signed_anew(site: Site, tmp_path: Path, name: str) -> None:
    path = site.directory / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert site.authority.due(NAMES, NOW) == "it cannot be read"
    path.unlink()
    assert site.authority.due(NAMES, NOW) == "it cannot be read"
    path.write_bytes((Site(tmp_path / "other", NOW).directory / name).read_bytes())
    assert site.authority.due(NAMES, NOW) == "certificate, key and CA do not fit together"
    site.authority.renew(NAMES, NOW)
    assert site.authority.due(NAMES, NOW) == ""


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnavailableError, match=r"cannot be used: .*; see who owns it, and the disk"):
        SiteAuthority(tmp_path / "file" / "tls").create("quay", NOW)


def test_what_a_crash_left_over_is_in_nobodys_way(site: Site) -> None:
    (site.directory / "server.key.new").write_text("half")
    site.renew()
    assert not (site.directory / "server.key.new").exists()
    assert mode(site.key) == 0o600
