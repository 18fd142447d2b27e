"""Which certificates serve a server name, and which hosts are known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.tls.sni import SiteNames

SITES = SiteNames(
    [
        ("shop.example", "www.shop.example"),  # 0: ECDSA
        ("*.shop.example", "api.shop.example"),  # 1
        ("WWW.Shop.Example.", "shop.example"),  # 2: RSA, the same names as 0
        ("xn--bcher-kva.example", "127.0.0.1", "::1", "2001:DB8:0:0::A"),  # 3
        ("api.shop.example",),  # 4
        ("*.shop.example", "*.a.shop.example", "localhost"),  # 5
    ]
)


@pytest.mark.parametrize(
    ("name", "indices"),
    [
        ("shop.example", (0, 2)),
        ("SHOP.Example", (0, 2)),
        ("shop.example.", (0, 2)),
        ("www.shop.example", (0, 2)),
        ("api.shop.example", (1, 4)),
        ("new.shop.example", (1, 5)),
        ("xn--new-0na.shop.example", (1, 5)),
        ("_a-b.shop.example", (1, 5)),
        ("x.a.shop.example", (5,)),
        ("xn--bcher-kva.example", (3,)),
        ("localhost", (5,)),
    ],
)
def test_exact_name_wins_over_wildcard(name: str, indices: tuple[int, ...]) -> None:
    assert SITES.lookup(name) == indices
    assert SITES.known(name)


@pytest.mark.parametrize(
    "name",
    [
        "other.example",
        "a.b.shop.example",
        ".shop.example",
        "example",
        "",
        ".",
        "*.shop.example",
        "evil.example,.shop.example",
        "evil%2f.shop.example",
        "bücher.example",
        "\N{KELVIN SIGN}.shop.example",
        "shop.example..",
        "a" * 64 + ".shop.example",
        "notshop.example",
        "a\n.shop.example",
    ],
)
def test_other_names_get_the_first_certificate_and_its_twin_and_are_not_known(name: str) -> None:
    assert SITES.lookup(name) == (0, 2)
    assert not SITES.known(name)


def test_no_server_name_gets_the_first_certificate_and_its_twin() -> None:
    assert SITES.lookup(None) == (0, 2)


def test_first_certificate_without_a_twin_is_the_default_alone() -> None:
    assert SiteNames([("a.example",), ("a.example", "b.example")]).lookup(None) == (0,)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1.", "::1", "[::1]", "0:0:0:0:0:0:0:1", "[2001:db8::a]", "2001:DB8::A"]
)
def test_address_of_a_certificate_is_known_in_every_spelling(host: str) -> None:
    assert SITES.known(host)
    assert SITES.lookup(host) == (0, 2)  # RFC 6066 section 3: an address is no server name


@pytest.mark.parametrize(
    "host", ["127.0.0.2", "::2", "[::1", "::1%lo", "127.1", "1.2.3.4.5", ":", "[]", "shop.example:443"]
)
def test_other_addresses_are_not_known(host: str) -> None:
    assert not SITES.known(host)


@pytest.mark.parametrize("name", ["*", "*.", "f*.example", "*.*.example", "bücher.example", "*.bücher.example", ""])
def test_certificate_names_that_are_no_host_names_match_nothing(name: str) -> None:
    sites = SiteNames([("first.example",), (name,)])
    assert sites.lookup(name) == (0,)
    assert not sites.known(name)
    assert not sites.known(name.replace("*", "x"))
    assert sites.groups() == {(0,)}


def test_groups_are_all_answers_that_lookup_can_give() -> None:
    assert SITES.groups() == {(0, 2), (1, 4), (1, 5), (3,), (5,)}


def test_certificate_that_lists_a_name_twice_is_given_once() -> None:
    assert SiteNames([("a.example", "A.Example", "a.example.")]).lookup("a.example") == (0,)


def test_without_certificates_nothing_is_found() -> None:
    empty = SiteNames([])
    assert empty.lookup("a.example") == ()
    assert empty.lookup(None) == ()
    assert not empty.known("a.example")


LABELS = st.sampled_from(["a", "b", "www"])
NAMES = st.builds(
    lambda wildcard, labels: ".".join([*(["*"] if wildcard else []), *labels]),
    st.booleans(),
    st.lists(LABELS, min_size=1, max_size=3),
)


@given(
    st.lists(st.lists(NAMES, min_size=1, max_size=4), min_size=1, max_size=5), st.lists(LABELS, min_size=1, max_size=4)
)
def test_lookup_agrees_with_a_search_through_all_names(certificates: list[list[str]], labels: list[str]) -> None:
    name, wildcard = ".".join(labels), ".".join(["*", *labels[1:]])
    exact = tuple(index for index, names in enumerate(certificates) if name in names)
    covering = tuple(index for index, names in enumerate(certificates) if len(labels) > 1 and wildcard in names)
    default = tuple(index for index, names in enumerate(certificates) if set(names) == set(certificates[0]))
    sites = SiteNames(certificates)
    assert sites.lookup(name) == (exact or covering or default)
    assert sites.known(name) is bool(exact or covering)
    assert sites.lookup(name) in sites.groups()
