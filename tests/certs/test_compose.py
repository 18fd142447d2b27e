from __future__ import annotations

from typing import Any

import pytest

from edge_certs.compose import MOUNT, Project, has_edge, make_override, read_project
from edge_certs.errors import CertificateError
from edge_certs.trust.variables import BUNDLE_VARIABLES, EXTRA_VARIABLES

EDGE = {"command": "edge serve app:app"}


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        (EDGE, True),
        ({"command": ["/opt/edge/bin/edge", "serve", "app:app"]}, True),
        ({"entrypoint": "edge", "command": ["serve", "app:app"]}, True),
        ({"command": "sh -c 'uvicorn app'"}, False),
        ({"command": "edge 'unfinished"}, True),
        ({"command": None}, False),
        ({}, False),
        ({"labels": {"edge.dev": "true"}}, True),
        ({"labels": ["edge.dev=true"]}, True),
        ({"labels": ["edge.developers=x"]}, False),
    ],
)
def test_service_with_edge_is_known(service: dict[str, Any], expected: bool) -> None:
    assert has_edge(service) is expected


def test_services_with_edge_are_those_that_run_it_or_those_that_were_named() -> None:
    content = {"services": {"web": EDGE, "db": {"image": "postgres"}}}
    assert read_project(content, ()).edges == ("web",)
    assert read_project(content, ("db",)).edges == ("db",)
    assert read_project(content, ()).names == {"web": "web.internal"}


@pytest.mark.parametrize(
    ("content", "chosen", "message"),
    [
        ({}, (), "no services in it; name a compose file with --file"),
        ({"services": ["web"]}, (), "no services in it; name a compose file with --file"),
        ({"services": {"web": None}}, (), "no services in it; name a compose file with --file"),
        ({"services": {"web": EDGE}}, ("wob",), "no service 'wob' in it, it has web; name one of these"),
        (
            {"services": {"db": {}}},
            (),
            "no service runs edge, by its command or a label edge.dev; name those that do with --edge SERVICE",
        ),
    ],
)
def test_file_without_such_services_is_refused(content: dict[str, Any], chosen: tuple[str, ...], message: str) -> None:
    with pytest.raises(CertificateError) as caught:
        read_project(content, chosen)
    assert str(caught.value) == message


def override(**services: dict[str, Any]) -> dict[str, Any]:
    made = make_override(Project(services, ("web",)), "1000:1000")
    found: dict[str, Any] = made["services"]
    return found


def test_every_service_trusts_and_only_those_with_edge_can_sign() -> None:
    made = override(web=EDGE, db={})
    for service in made.values():
        assert {service["environment"][name] for name in BUNDLE_VARIABLES} == {f"{MOUNT}/bundle.pem"}
        assert {service["environment"][name] for name in EXTRA_VARIABLES} == {f"{MOUNT}/roots.pem"}
        assert all(volume["read_only"] for volume in service["volumes"])
    targets = {name: [volume["target"] for volume in service["volumes"]] for name, service in made.items()}
    assert targets["web"] == [f"{MOUNT}/bundle.pem", f"{MOUNT}/roots.pem", f"{MOUNT}/authority.pem"]
    assert targets["db"] == targets["web"][:2]
    assert made["web"]["environment"]["EDGE_DEV_NAME"] == "web.internal"
    assert set(made["db"]) == {"environment", "volumes"}


def test_roots_key_is_in_no_mount() -> None:
    made = override(web=EDGE, db={})
    sources = {volume["source"] for service in made.values() for volume in service["volumes"]}
    assert sources == {"./.edge/authority.pem", "./.edge/bundle.pem", "./.edge/roots.pem"}


@pytest.mark.parametrize(
    ("service", "networks"),
    [
        ({}, {"default": {"aliases": ["web.internal"]}}),
        (
            {"networks": ["front", "back"]},
            {"front": {"aliases": ["web.internal"]}, "back": {"aliases": ["web.internal"]}},
        ),
        ({"networks": {"front": None}}, {"front": {"aliases": ["web.internal"]}}),
        ({"network_mode": "host"}, None),
    ],
)
def test_name_is_an_alias_in_each_network_of_the_service(service: dict[str, Any], networks: object) -> None:
    assert override(web=service)["web"].get("networks") == networks


def test_user_of_the_file_stays() -> None:
    assert override(web=EDGE)["web"]["user"] == "1000:1000"
    assert "user" not in override(web={"user": "www"})["web"]


@pytest.mark.parametrize(
    "environment",
    [{"EDGE_DEV_NAME": "a.test, b.test", "X": None}, ["EDGE_DEV_NAME=a.test,b.test", "X", "Y=1=2"]],
    ids=["mapping", "list"],
)
def test_names_that_the_file_gives_are_kept(environment: object) -> None:
    made = override(web={"environment": environment})
    assert made["web"]["environment"]["EDGE_DEV_NAME"] == "web.internal,a.test,b.test"
