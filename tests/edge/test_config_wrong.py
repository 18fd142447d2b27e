"""What `edge.toml` may not say: every key with every kind of value, answered in one line and never by a crash."""

from __future__ import annotations

import tomllib

import pytest

from edge.config import TABLES, build_settings
from edge.config_toml import ROUTE, SITE, TARGETS, read_text
from edge.errors import ConfigError
from edge.options import Option
from edge.toml_file import parse_document

KEYS: dict[str, Option] = {
    **{f"{table}.{key}": option for table, options in TABLES.items() for key, option in options.items()},
    **{f"site.{key}": option for key, option in {**SITE, **ROUTE}.items()},
    **{f"route.{key}": option for options in TARGETS.values() for key, option in options.items()},
}
TEXTS = [
    '""',
    '" "',
    '"\\n"',
    '"x\\ny"',
    '"\\u0000"',
    '"\\u001b[31m"',
    '"é"',
    '"\\u0661"',
    '"1_0"',
    '"1e9"',
    '"%(x)s"',
    '"~"',
]
NUMBERS = ["0", "-1", "99999999999999999999999", "1.5", "-0.0", "nan", "inf", "1e400", "true", "false"]
TIMES = ["2020-01-01", "2020-01-01T00:00:00Z", "07:00:00"]
LISTS = ["[]", "[1]", "[[]]", '[""]', "[{a=1}]", "[2020-01-01]"]
TABLES_IN_LINE = ["{}", "{a=1}", '{a="b"}', "{a={}}"]
# They name variables, each with its value.
ASSIGNMENTS = {"application.env", "application.paste_global", "route.env"}


def value_of(text: str) -> object:
    return tomllib.loads(f"value = {text}")["value"]


def refusal(option: Option, text: str) -> str | None:
    """Return what is said of a value; None if it is taken."""
    try:
        option.kind.parse(option.kind.anchored(value_of(text), "/nosuch"))
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize("key", KEYS)
def test_any_value_of_any_key_is_taken_or_refused_in_one_line(key: str) -> None:
    for text in (*TEXTS, *NUMBERS, *TIMES, *LISTS, *TABLES_IN_LINE):
        said = refusal(KEYS[key], text)
        assert said is None or (said and said.isprintable()), (text, said)
        # A time is the value of no key, and a table of those alone that name variables.
        assert said or text not in TIMES
        assert said or text not in TABLES_IN_LINE or key in ASSIGNMENTS


WRONG = {
    "number-for-folders": ("[static]\nstatic = 1", "2: static.static = 1: not a path with its folder"),
    "number-for-a-name": (
        "[[site]]\nhosts = 1\n[[site.route]]\napp = 'a:b'",
        "2: site.hosts = 1: not text",
    ),
    "table-for-an-address": ("[listen]\nbind = {}", "2: listen.bind = {}: not text; use a string"),
    "number-for-a-socket": ("[listen]\nuds = 1", "2: listen.uds = 1: not a path; use the name of a file"),
    "switch-for-an-account": ("[run]\nuser = true", "2: run.user = True: no name of an account"),
    "nul-among-ciphers": ('[tls]\nciphers = "\\u0000"', "2: tls.ciphers = '\\x00': OpenSSL knows none of these"),
    "two-applications": (
        '[application]\napp = "a:b"\npaste = "c"',
        "3: application.paste: a:b is given too; use one of them",
    ),
    "twice": ("[limits]\nqueue = 1\nqueue = 2", "3: not TOML: cannot overwrite a value"),
    "table-twice": ("[limits]\n[limits]", "2: not TOML: cannot declare ('limits',) twice"),
    "table-for-a-list": ("[[limits]]\nqueue = 1", "1: limits = [{'queue': 1}]: not a table; use [limits]"),
    "misspelt-key": ("[limits]\nqueu = 1", "2: limits.queu: unknown key; did you mean limits.queue"),
    "misspelt-table": ("[limit]\nqueue = 1", "1: limit: unknown key; did you mean limits"),
    "key-without-its-table": ("queue = 1", "1: queue: unknown key; did you mean limits.queue"),
    "line-end-in-a-key": ('"a\\nb" = 1', '1: "a\\nb": unknown key'),
    "escape-in-a-key": ('[limits]\n"\\u001b[31m" = 1', '2: limits."\\u001b[31m": unknown key'),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_fault_is_told_with_file_and_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_settings({}, {}, read_text(parse_document("edge.toml", text + "\n"), TABLES))
    [line] = str(caught.value).split("\n")
    assert line.startswith(f"edge.toml:{said}")
    assert line.isprintable()
