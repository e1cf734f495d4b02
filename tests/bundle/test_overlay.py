"""The active bundle over skerry.toml: what counts, where it says it comes from, and whom an error names."""

from pathlib import Path

import pytest

from skerry import Bundle, config
from skerry.bundle import BUNDLES, BundleFile, Shelf
from skerry.core.errors import ConfigError, CorruptError
from skerry.trust import SigningKey

KEY = SigningKey.new()
SOURCE = 'source = { topic = "devices/+/x", values = ["a"] }\n'


def pipeline(name: str, more: str = "") -> str:
    return f'[[pipelines]]\nname = "{name}"\n{SOURCE}{more}'


def project(folder: Path, text: str, content: bytes = b"one") -> Path:
    folder.mkdir(parents=True)
    (folder / "m.onnx").write_bytes(content)
    file = folder / "skerry.toml"
    file.write_text(text)
    return file


def applied(folder: Path, site: Path, text: str, content: bytes = b"one", keep: bool = True) -> str:
    """Build a bundle of a project and make it the active one of a site that does not run."""
    made = Bundle.build(project(folder, text, content), folder / "plant.bundle")
    (folder / "key").write_text(KEY.pem())
    made.sign(folder / "key")
    shelf = Shelf(config.load(site, with_models=False, bundle="").data_dir / BUNDLES)
    id_ = shelf.install(BundleFile(made.path), [KEY.public])
    shelf.switch(id_, 1_000_000)
    if keep:
        shelf.keep()
    return id_


MODEL = '[[models]]\nname = "m"\nfile = "m.onnx"\nversion = "{}"\nlabels = ["no", "yes"]\n'


def test_tables_of_a_bundle_take_the_place_of_those_of_the_same_name(tmp_path: Path) -> None:
    site = project(tmp_path / "site", MODEL.format(1) + pipeline("mine") + pipeline("p", 'model = "m"\n'), b"zero")
    known = applied(tmp_path / "dev", site, MODEL.format(2) + pipeline("p", 'model = "m@active"\npriority = 3\n') + pipeline("new"))
    found = config.load(site)
    told = [(spec.name, spec.model, spec.priority) for spec in found.pipelines]
    assert told == [("mine", "", 0), ("p", "m@2", 3), ("new", "", 0)]
    contents = [(each.name, each.version, (found.base / each.file).read_bytes()) for each in found.models]
    assert contents == [("m", "1", b"zero"), ("m", "2", b"one")]
    assert found.catalogue().find("m@2").labels == ("no", "yes")
    origins = {key: origin for key, _, origin in config.show(site)}
    assert origins["pipelines[0].name"] == str(site)
    assert origins["pipelines[1].priority"] == origins["models[1].file"] == f"bundle plant 1 ({known[:12]})"
    alone = config.load(site, bundle="")
    assert [spec.name for spec in alone.pipelines] == ["mine", "p"]
    assert config.load(site, bundle=known).pipelines == found.pipelines


def test_a_site_without_pipelines_of_its_own_runs_those_of_the_bundle(tmp_path: Path) -> None:
    site = project(tmp_path / "site", "[node]\nname = 'a'\n")
    applied(tmp_path / "dev", site, pipeline("p"))
    assert [spec.name for spec in config.load(site).pipelines] == ["p"]


def test_connectors_come_with_it(tmp_path: Path) -> None:
    text = '[[connectors]]\nname = "hall"\nkind = "http"\ndirection = "in"\ntopic = "devices/hall/x"\n'
    site = project(tmp_path / "site", pipeline("p"))
    applied(tmp_path / "dev", site, text + pipeline("p"))
    assert [spec.name for spec in config.load(site).connectors] == ["hall"]


def test_an_error_that_comes_of_both_together_names_both(tmp_path: Path) -> None:
    site = project(tmp_path / "site", '[uplink]\nkind = "file"\nurl = "file:///tmp/x"\n')
    applied(tmp_path / "dev", site, '[uplink]\nkind = "file"\nurl = "file:///tmp/x"\n' + pipeline("p", 'sinks = ["uplink"]\n'))
    assert config.load(site).pipelines
    site.write_text("")
    with pytest.raises(ConfigError, match=r"skerry\.toml with bundle plant 1 \(\w+\): pipelines\[0\]\.sinks\[0\]: .* no centre"):
        config.load(site)
    assert config.load(site, bundle="").pipelines == ()


def test_a_bundle_that_is_gone_is_told_of_and_not_passed_over(tmp_path: Path) -> None:
    site = project(tmp_path / "site", pipeline("p"))
    known = applied(tmp_path / "dev", site, pipeline("p"))
    (tmp_path / "site" / "data" / BUNDLES / known / "manifest.json").unlink()
    with pytest.raises(CorruptError, match=r"manifest\.json: cannot be read.*skerry bundle rollback"):
        config.load(site)


def test_a_bundle_of_a_site_with_a_bundle_is_built_of_its_file_alone(tmp_path: Path) -> None:
    site = project(tmp_path / "site", pipeline("mine"))
    applied(tmp_path / "dev", site, pipeline("p"))
    assert Bundle.build(site, tmp_path / "again.bundle").facts["pipelines"] == ["mine"]


def test_a_version_that_was_added_to_the_catalogue_goes_into_the_bundle(tmp_path: Path) -> None:
    from skerry.inference import Version

    file = project(tmp_path / "dev", pipeline("p", 'model = "added"\n'))
    catalogue = config.load(file, with_models=False).catalogue()
    sha, size = catalogue.store(file.parent / "m.onnx")
    catalogue.add(Version("added", "7", sha256=sha, size=size, engine="openvino", labels=("x",)))
    catalogue.activate("added", "7")
    made = Bundle.build(file, tmp_path / "plant.bundle")
    assert made.facts["models"] == ["added@7"]
    table = BundleFile(made.path).manifest.models[0]
    assert table == {"name": "added", "version": "7", "file": f"models/{sha}.onnx", "labels": ["x"]}
