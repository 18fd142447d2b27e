"""Which target serves a request: by host, then by the longest path prefix."""

from __future__ import annotations

import pytest

from edge.dispatch.dispatcher import Dispatcher
from edge.dispatch.router import Route, Router, Routes, host_name, plain_path
from edge.http.events import RequestHead
from tests.edge.dispatch.ends import dispatcher


class Named:
    """Targets by name, and the names of what is found."""

    def __init__(self, *names: str) -> None:
        self.targets = {name: dispatcher() for name in names}

    def __getitem__(self, name: str) -> Dispatcher:
        return self.targets[name]

    def find(self, router: Router, host: bytes, target: bytes) -> str:
        found = router.find(RequestHead(1, b"GET", target, b"1.1", host))
        return next(name for name, target in self.targets.items() if target is found)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (b"/", "all"),
        (b"*", "all"),
        (b"/index", "all"),
        (b"/api", "api"),
        (b"/api?x=/", "api"),
        (b"/api/users", "api"),
        (b"/apiary", "all"),
        (b"/api/v2", "v2"),
        (b"/api/v2/users", "v2"),
        (b"/api/v21", "api"),
        # What another reader takes for a path of a route belongs to that route.
        (b"/%61pi/users", "api"),
        (b"//api/users", "api"),
        (b"/x/../api/users", "api"),
        (b"/x/%2e%2e/api", "api"),
        (b"/api/v2/../users", "api"),
        (b"/api/../index", "all"),
        (b"/api%2fv2", "v2"),
        (b"/api\\v2", "v2"),
        (b"/./api/", "api"),
        (b"/..", "all"),
    ],
)
def test_longest_prefix_that_ends_at_a_slash_is_found(target: bytes, name: str) -> None:
    named = Named("all", "api", "v2")
    routes = [Route(b"/", named["all"]), Route(b"/api/v2", named["v2"]), Route(b"/api/", named["api"])]
    assert named.find(Router(Routes(routes, named["all"])), b"a.example", target) == name


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (b"a.example", "a"),
        (b"A.Example:8443", "a"),
        (b"a.example.", "a"),
        (b"x.b.example", "b"),
        (b"b.example", "other"),
        (b"x.y.b.example", "other"),
        (b"[::1]:443", "address"),
        (b"", "other"),
    ],
)
def test_site_is_found_by_host(host: bytes, name: str) -> None:
    named = Named("a", "b", "address", "other")
    sites = {
        key: Routes((), named[site]) for key, site in (("a.example", "a"), ("*.b.example", "b"), ("::1", "address"))
    }
    router = Router(named["other"], sites)
    assert named.find(router, host, b"/") == name
    assert named.find(router, host, b"/again") == name


def test_one_target_serves_everything_where_there_is_no_other() -> None:
    named = Named("all")
    assert named.find(Router(named["all"]), b"any", b"/any") == "all"


def test_hosts_that_are_made_up_are_not_remembered_for_ever() -> None:
    named = Named("a", "other")
    router = Router(named["other"], {"a.example": Routes((), named["a"])})
    for number in range(3000):
        assert named.find(router, b"%d.example" % number, b"/") == "other"
    assert len(router._found) <= 1024
    assert named.find(router, b"a.example", b"/") == "a"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/a/b?c=%2e//", b"/a/b"),
        (b"/a%2", b"/a%2"),
        (b"/a%zz", b"/a%zz"),
        (b"/%2561", b"/%61"),
        (b"/a/", b"/a/"),
        (b"/a//", b"/a/"),
        (b"/a/.", b"/a/"),
        (b"/a/b/..", b"/a/"),
        (b"/../..", b"/"),
        (b"//", b"/"),
        (b"/.hidden/x", b"/.hidden/x"),
    ],
)
def test_path_is_read_once_as_every_reader_has_to(target: bytes, path: bytes) -> None:
    assert plain_path(target) == path


def test_host_name_of_an_address_has_no_brackets() -> None:
    assert host_name(b"[2001:DB8::1]:80") == "2001:db8::1"
