import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ConfigError
from edge.net.address import Address, FdAddress, TcpAddress, UnixAddress, parse_address, parse_host


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", TcpAddress("127.0.0.1", 8000)),
        ("localhost:0", TcpAddress("localhost", 0)),
        ("my_host.shop.example.:65535", TcpAddress("my_host.shop.example.", 65535)),
        ("[::1]:443", TcpAddress("::1", 443)),
        ("[fe80::1%eth0]:443", TcpAddress("fe80::1%eth0", 443)),
        (":8000", TcpAddress("", 8000)),
        ("unix:/run/app.sock", UnixAddress("/run/app.sock")),
        ("unix:app.sock", UnixAddress("app.sock")),
        ("unix:/a:1", UnixAddress("/a:1")),
        ("unix:" + "x" * 103, UnixAddress("x" * 103)),
        ("fd://0", FdAddress(0)),
        ("fd://13", FdAddress(13)),
    ],
)
def test_address_is_read_and_written_back(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


FORMS = "use HOST:PORT, [IPV6]:PORT, :PORT, unix:PATH or fd://N"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"'': no colon in it; {FORMS}"),
        ("8000", f"'8000': no colon in it; {FORMS}"),
        ("localhost", f"'localhost': no colon in it; {FORMS}"),
        ("a:65536", f"'a:65536': port '65536' is not a number from 0 to 65535; {FORMS}"),
        ("a:", f"'a:': port '' is not a number from 0 to 65535; {FORMS}"),
        ("a:080", f"'a:080': port '080' is not a number from 0 to 65535; {FORMS}"),
        ("a:+1", f"'a:+1': port '+1' is not a number from 0 to 65535; {FORMS}"),
        ("a:٣", f"'a:٣': port '٣' is not a number from 0 to 65535; {FORMS}"),
        ("https://a:1", f"'https://a:1': 'https://a' is not a host; {FORMS}"),
        ("::1:443", "'::1:443': an IPv6 address without brackets; use [::1]:443"),
        ("[::1::]:443", "'[::1::]:443': '::1::' is not an IPv6 address; use one such as [::1]"),
        ("[a]:443", "'[a]:443': 'a' is not an IPv6 address; use one such as [::1]"),
        ("300.0.0.1:80", "'300.0.0.1': not an IPv4 address; use four numbers from 0 to 255"),
        ("*:80", "'*': not a host name; use a name, an IPv4 or an IPv6 address"),
        ("a..b:80", "'a..b': not a host name; use a name, an IPv4 or an IPv6 address"),
        ("-a:80", "'-a': not a host name; use a name, an IPv4 or an IPv6 address"),
        (f"{'a.' * 127}:80", f"{'a.' * 127!r}: not a host name; use a name, an IPv4 or an IPv6 address"),
        ("unix:", "'unix:': no path in it; use unix:PATH"),
        ("unix:a\0b", "'unix:a\\x00b': no path in it; use unix:PATH"),
        ("unix:" + "x" * 104, f"'unix:{'x' * 104}': path of 104 bytes, at most 103 allowed; use a shorter one"),
        ("fd://", "'fd://': '' is not the number of an open file; use fd://3"),
        ("fd://-1", "'fd://-1': '-1' is not the number of an open file; use fd://3"),
        ("fd://03", "'fd://03': '03' is not the number of an open file; use fd://3"),
    ],
)
def test_what_is_no_address_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_address(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "host"),
    [("localhost", "localhost"), ("10.0.0.1", "10.0.0.1"), ("::1", "::1"), ("[::1]", "::1"), ("::", "::")],
)
def test_host_is_read_with_and_without_brackets(text: str, host: str) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'': not a host name; use a name, an IPv4 or an IPv6 address"),
        ("a:80", "'a:80': a host with its port; give the port by itself"),
        ("1:2:3", "'1:2:3': '1:2:3' is not an IPv6 address; use one such as [::1]"),
    ],
)
def test_what_is_no_host_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_host(text)
    assert str(caught.value) == message


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_refused_with_one_line(text: str) -> None:
    try:
        said = str(parse_address(text))
    except ConfigError as error:
        said = str(error)
    assert said == text or ("; use " in said and "\n" not in said)
