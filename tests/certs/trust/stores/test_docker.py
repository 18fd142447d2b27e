from __future__ import annotations

from pathlib import Path

import pytest

from edge_certs.errors import CertificateError
from edge_certs.trust.stores.docker import docker_places, is_registry
from edge_certs.trust.stores.steps import perform
from edge_certs.trust.stores.targets import find_places, open_place
from tests.certs.trust.stores.recording import Recording, machine, make_root


def test_root_goes_into_the_folder_of_each_registry_that_is_named(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    on = machine(tmp_path, Recording({}))
    places = find_places("docker", on, ["registry.corp.example", "10.0.0.1:5000"])
    for place in places:
        assert (place.trusts(root), place.needs_root) == (False, False)
        for step in place.installing(root):
            perform(step, on)
        assert (place.trusts(root), place.holds(root)) == (True, True)
    folder = tmp_path / "etc/docker/certs.d"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.crt")) == [
        f"10.0.0.1:5000/{root.name}.crt",
        f"registry.corp.example/{root.name}.crt",
    ]
    for step in open_place("docker", places[0].location, on).removing(root):
        perform(step, on)
    assert [place.holds(root) for place in places] == [False, True]


def test_without_names_it_is_the_registries_that_have_a_folder(tmp_path: Path) -> None:
    on = machine(tmp_path, Recording({}), is_root=False)
    (tmp_path / "etc/docker/certs.d/registry.corp.example:5000").mkdir(parents=True)
    [place] = docker_places(on)
    assert (place.location, place.needs_root) == ("/etc/docker/certs.d/registry.corp.example:5000", True)


def test_root_of_somebody_else_is_trusted_and_not_ours(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    folder = tmp_path / "etc/docker/certs.d/a.example"
    folder.mkdir(parents=True)
    (folder / "broken.crt").write_bytes(b"garbage")
    [place] = docker_places(machine(tmp_path, Recording({})))
    assert not place.trusts(root)
    (folder / "ca.crt").write_bytes(root.pem)
    assert (place.trusts(root), place.holds(root)) == (True, False)


def test_no_registry_at_all_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        CertificateError, match=r"docker: no registry has a folder in /etc/docker/certs.d; name one with"
    ):
        find_places("docker", machine(tmp_path, Recording({})))


@pytest.mark.parametrize("name", ["docker.io", "localhost:5000", "10.0.0.1", "[::1]:5000", "a_b.example"])
def test_name_of_a_registry(name: str) -> None:
    assert is_registry(name)


@pytest.mark.parametrize("name", ["", "..", "../etc", "a/b", "a:b", "a:123456", "https://a", "a\n", ".hidden"])
def test_what_is_no_name_of_a_registry(name: str) -> None:
    assert not is_registry(name)
