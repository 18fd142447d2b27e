import dataclasses
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest

from edge import options, options_networks
from edge.errors import ConfigError
from edge.net.address import TcpAddress, UnixAddress
from edge.options import KIB, MIB, Kind, Option


@pytest.mark.parametrize(
    ("kind", "value", "parsed"),
    [
        (options.count(0, 65_535), "0", 0),
        (options.count(0, 65_535), "65535", 65_535),
        (options.count(1, 9), 9, 9),
        (options.count(-5, 9), "-5", -5),
        (options.count(1, 9, auto=lambda: 7), "auto", 7),
        (options.size(0, MIB), "0", 0),
        (options.size(0, MIB), 4096, 4096),
        (options.size(0, MIB), "100b", 100),
        (options.size(0, MIB), "8KiB", 8 * KIB),
        (options.size(0, MIB), "8 kib", 8 * KIB),
        (options.size(0, MIB), "8k", 8 * KIB),
        (options.size(0, MIB), "1M", MIB),
        (options.size(0, 2**40), "2g", 2**31),
        (options.size(0, 2**40), "2GiB", 2**31),
        (options.seconds(), "10", 10.0),
        (options.seconds(), "10s", 10.0),
        (options.seconds(), "1.5", 1.5),
        (options.seconds(), "500ms", 0.5),
        (options.seconds(), "2m", 120.0),
        (options.seconds(), "24H", 86_400.0),
        (options.seconds(), 3, 3.0),
        (options.seconds(), 0.25, 0.25),
        (options.seconds(0), "0", 0.0),
        (options.choice("auto", "on", "off"), "ON", "on"),
        (options.switch(), True, True),
        (options.switch(), "off", False),
        (options.switch(), "Yes", True),
        (options.switch(), 0, False),
        (options.host(), "[::1]", "::1"),
        (options.addresses(), "a:1", (TcpAddress("a", 1),)),
        (options.addresses(), ["a:1", "unix:b"], (TcpAddress("a", 1), UnixAddress("b"))),
        (options.files(), Path("a.pem"), (Path("a.pem"),)),
        (options.files(), ("a.pem", "b.pem"), (Path("a.pem"), Path("b.pem"))),
        (options.certificate_names(), "a.test", (("a.test",),)),
        (options.certificate_names(), ["a.test, b.test", "*.c.test"], (("a.test", "b.test"), ("*.c.test",))),
        (options.choices("one", "two"), "TWO", ("two",)),
        (options.choices("one", "two"), ["two", "one", "two"], ("two", "one")),
        (options.text(), " shortlived ", "shortlived"),
        (options.email(), "me+edge@shop.test", "me+edge@shop.test"),
        (options.https_url(), "https://ca.test:1/dir", "https://ca.test:1/dir"),
        (options.command(), "/bin/hook 'a b'", "/bin/hook 'a b'"),
        (options.directory(), ".", "."),
        (options.directory(), Path("/"), "/"),
        (options.prefix(), "", ""),
        (options.prefix(), "/", ""),
        (options.prefix(), "/api/", "/api"),
        (options.application(), "app:app", "app:app"),
        (options.application(), "app", "app"),
        (options.application(), "shop.site.asgi:make.app", "shop.site.asgi:make.app"),
        (options_networks.networks(), "10.0.0.0/8, ::1", (IPv4Network("10.0.0.0/8"), IPv6Network("::1"))),
        (options_networks.networks(), ["192.0.2.1", "192.0.2.1,unix"], (IPv4Network("192.0.2.1"), None)),
        (options_networks.networks(), "*", (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"), None)),
        (options_networks.networks(), "10.0.0.0/255.0.0.0", (IPv4Network("10.0.0.0/8"),)),
        (options_networks.networks(), "::ffff:10.0.0.0/104", (IPv4Network("10.0.0.0/8"),)),
        (options_networks.networks(), "fd00::/96", (IPv6Network("fd00::/96"),)),
        (options_networks.networks(), "", ()),
    ],
)
def test_value_is_read(kind: Kind, value: object, parsed: object) -> None:
    got = kind.parse(value)
    assert got == parsed
    assert type(got) is type(parsed)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (options.count(1, 9), "x", "'x': not a whole number; use 1 to 9"),
        (options.count(1, 9), "1.0", "'1.0': not a whole number; use 1 to 9"),
        (options.count(1, 9), "+1", "'+1': not a whole number; use 1 to 9"),
        (options.count(1, 9), "auto", "'auto': not a whole number; use 1 to 9"),
        (options.count(1, 9), True, "True: not a whole number; use 1 to 9"),
        (options.count(1, 9), "9" * 19, f"{'9' * 19!r}: not a whole number; use 1 to 9"),
        (options.count(1, 9), "0", "'0': out of range; use 1 to 9"),
        (options.count(1, 9), -1, "-1: out of range; use 1 to 9"),
        (options.count(1, 9, auto=lambda: 7), "10", "'10': out of range; use 1 to 9 or auto"),
        (options.size(0, MIB), "10mb", "'10mb': unknown unit 'mb'; use KiB, MiB, GiB or a number of bytes"),
        (options.size(0, MIB), "1.5MiB", "'1.5MiB': not a size; use a number of bytes, or one of KiB, MiB, GiB"),
        (options.size(0, MIB), 1.5, "1.5: not a size; use a number of bytes, or one of KiB, MiB, GiB"),
        (options.size(0, MIB), "", "'': not a size; use a number of bytes, or one of KiB, MiB, GiB"),
        (options.size(64, MIB), "63", "'63': out of range; use 64 to 1MiB"),
        (options.size(0, KIB), "-1", "'-1': out of range; use 0 to 1KiB"),
        (options.size(0, 2**31), "3GiB", "'3GiB': out of range; use 0 to 2GiB"),
        (options.seconds(), "0", "'0': out of range; use 1ms to 24h"),
        (options.seconds(), "-1", "'-1': out of range; use 1ms to 24h"),
        (options.seconds(0), "-0.5s", "'-0.5s': out of range; use 0s to 24h"),
        (options.seconds(), "25h", "'25h': out of range; use 1ms to 24h"),
        (options.seconds(), "1d", "'1d': unknown unit 'd'; use ms, s, m, h or a number of seconds"),
        (options.seconds(), "inf", "'inf': not a duration; use a number of seconds, or one such as 500ms, 10s, 2m"),
        (options.seconds(), [], "[]: not a duration; use a number of seconds, or one such as 500ms, 10s, 2m"),
        (options.choice("auto", "on", "off"), "yes", "'yes': unknown; use auto, on or off"),
        (options.choice("auto", "on", "off"), 1, "1: unknown; use auto, on or off"),
        (options.switch(), "2", "'2': neither on nor off; use 1 or 0, true or false, yes or no, on or off"),
        (options.host(), 80, "80: not text; use a string"),
        (
            options.addresses(),
            ["a:1", "b"],
            "'b': no colon in it; use HOST:PORT, [IPV6]:PORT, :PORT, unix:PATH or fd://N",
        ),
        (options.files(), "", "'': not a path; use the name of a file or directory"),
        (options.files(), "a\0b", "'a\\x00b': not a path; use the name of a file or directory"),
        (options.files(), 3, "3: not a path; use the name of a file or directory"),
        (options.certificate_names(), "a.test,", "'a.test,': an empty name; use one such as example.com, or NAME,NAME"),
        (options.certificate_names(), ["a.test", "b.test,a.test"], "'a.test': given twice; leave out one"),
        (options.choices("one", "two"), ["one", "three"], "'three': unknown; use one or two"),
        (options.text(), "a\nb", "'a\\nb': not visible ASCII; use what the authority names"),
        (options.text(), "", "'': not visible ASCII; use what the authority names"),
        (options.email(), "me", "'me': not an e-mail address; use one such as you@example.com"),
        (options.email(), "a@b\r\nc", "'a@b\\r\\nc': not an e-mail address; use one such as you@example.com"),
        (
            options.https_url(),
            "http://ca.test/dir",
            "'http://ca.test/dir': not an https URL; use one such as https://ca.example/acme/directory",
        ),
        (options.command(), "hook 'a", '"hook \'a": no closing quotation; quote it as for a shell'),
        (options.command(), " ", "' ': no command; use the name of a program"),
        (options.directory(), "no/such", "'no/such': no such directory; use one that exists"),
        (options.prefix(), "api", "'api': not a path of visible ASCII that begins with '/'; use one such as '/api'"),
        (options.prefix(), "/ä", "'/ä': not a path of visible ASCII that begins with '/'; use one such as '/api'"),
        (options.prefix(), "/a\n", "'/a\\n': not a path of visible ASCII that begins with '/'; use one such as '/api'"),
        (options.application(), "", "'': not an import path; use MODULE:ATTR, such as app:app"),
        (options.application(), ":app", "':app': not an import path; use MODULE:ATTR, such as app:app"),
        (options.application(), "app:", "'app:': not an import path; use MODULE:ATTR, such as app:app"),
        (options.application(), "a:b:c", "'a:b:c': not an import path; use MODULE:ATTR, such as app:app"),
        (options.application(), "my-app:app", "'my-app:app': not an import path; use MODULE:ATTR, such as app:app"),
        (options.application(), "app.py", "'app.py': a file, not a module; use app:app"),
        (options.application(), "./src/app.py:make", "'./src/app.py:make': a file, not a module; use src.app:make"),
        (
            options.application(),
            "app:make(x)",
            "'app:make(x)': x: arguments are literals, such as 'text', 1, True or None",
        ),
        (options.application(), None, "None: workers import the application by its name; use 'MODULE:ATTR'"),
        (
            options_networks.networks(),
            "10.0.0.0/33",
            "'10.0.0.0/33': not an address or network; use CIDR such as 10.0.0.0/8, unix or *",
        ),
        (
            options_networks.networks(),
            "10.0.0.0/8 ::1",
            "'10.0.0.0/8 ::1': not an address or network; use CIDR such as 10.0.0.0/8, unix or *",
        ),
        (
            options_networks.networks(),
            ["::1", "localhost"],
            "'localhost': not an address or network; use CIDR such as 10.0.0.0/8, unix or *",
        ),
        (
            options_networks.networks(),
            "10.0.0.1/8",
            "'10.0.0.1/8': host bits are set; use 10.0.0.0/8 or the single address 10.0.0.1",
        ),
        (
            options_networks.networks(),
            "fd00::1/64",
            "'fd00::1/64': host bits are set; use fd00::/64 or the single address fd00::1",
        ),
    ],
)
def test_wrong_value_is_refused_with_what_is_allowed(kind: Kind, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kind.parse(value)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0"), (500, "500"), (KIB, "1KiB"), (1536, "1536"), (100 * MIB, "100MiB"), (2**31, "2GiB")]
)
def test_size_is_shown_in_its_largest_whole_unit(size: int, text: str) -> None:
    assert options.show_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0s"), (0.5, "500ms"), (1.5, "1.5s"), (75.0, "75s"), (3600.0, "1h"), (5400.0, "5400s")]
)
def test_duration_is_shown_with_its_unit(seconds: float, text: str) -> None:
    assert options.show_seconds(seconds) == text


@pytest.mark.parametrize(("on", "text"), [(True, "on"), (False, "off")])
def test_switch_is_shown_as_on_or_off(on: bool, text: str) -> None:
    assert options.switch().show(on) == text


def test_long_flags_name_the_option_in_python_and_in_the_environment() -> None:
    option = Option(("--max-body", "-m", "--limit-body"), options.size(0, 9), "help", "0", environment=("MAX",))
    assert option.key == "max_body"
    assert option.keys == ("max_body", "limit_body")
    assert option.variables == ("EDGE_MAX_BODY", "EDGE_LIMIT_BODY", "MAX")
    assert not option.is_argument


def test_option_without_dashes_is_an_argument() -> None:
    option = Option(("app",), options.application(), "help", "required")
    assert option.is_argument
    assert option.variables == ("EDGE_APP",)


def test_names_that_share_a_certificate_keep_their_commas_in_a_variable() -> None:
    assert options.certificate_names().split("a.test,b.test c.test") == ["a.test,b.test", "c.test"]
    assert options.files().split("a.pem,b.pem c.pem") == ["a.pem", "b.pem", "c.pem"]


def test_field_carries_its_option_and_its_default() -> None:
    key = Option(("--key",), options.files(), "key", "none")

    @dataclasses.dataclass(frozen=True, slots=True)
    class Part:
        app: str = options.required(options.application(), "app", help="what")
        body: int = options.setting(KIB, options.size(0, MIB), "--body", help="how much", beside=(key,))
        cpus: int = options.computed(lambda: 3, options.count(1, 9), "--cpus", help="how many", shown="all")
        plain: int = 0

    assert Part("a:b") == Part("a:b", KIB, 3, 0)
    app, body, cpus, plain = map(options.options_of, dataclasses.fields(Part))
    assert [option.shown for option in (*app, *body, *cpus)] == ["required", "1KiB", "none", "all"]
    assert body[1] is key
    assert plain == ()
