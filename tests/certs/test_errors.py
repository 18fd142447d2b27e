from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest

from edge_certs.errors import CertificateError, naming, place, reason


def test_message_is_what_was_found_and_what_to_do() -> None:
    error = CertificateError("certificate a.pem: no such file", "name another")
    assert str(error) == "certificate a.pem: no such file; name another"
    assert (error.found, error.advice) == ("certificate a.pem: no such file", "name another")


def test_message_without_advice_has_no_semicolon() -> None:
    assert str(CertificateError("the disk is on fire")) == "the disk is on fire"


def test_error_survives_the_way_from_another_process() -> None:
    copy = pickle.loads(pickle.dumps(CertificateError("found", "advice")))
    assert str(copy) == "found; advice"


def test_naming_puts_the_subject_in_front_and_keeps_the_cause() -> None:
    inner = CertificateError("expired", "renew it")
    with pytest.raises(CertificateError) as caught, naming("certificate a.pem"):
        raise inner
    assert str(caught.value) == "certificate a.pem: expired; renew it"
    assert caught.value.__cause__ is inner


def test_naming_leaves_other_errors_alone() -> None:
    with pytest.raises(KeyError), naming("certificate a.pem"):
        raise KeyError("a")


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (Path("tls/fullchain.pem"), "tls/fullchain.pem"),
        ("with space.pem", "with space.pem"),
        ("line\nbreak.pem", "'line\\nbreak.pem'"),
        ("escape\x1b[31m.pem", "'escape\\x1b[31m.pem'"),
        ("ends with space ", "'ends with space '"),
        ("", "''"),
    ],
)
def test_place_quotes_what_would_break_the_line(path: Path | str, shown: str) -> None:
    assert place(path) == shown


def test_reason_is_in_lower_case() -> None:
    assert reason(PermissionError(errno.EACCES, "Permission denied")) == "permission denied"


def test_reason_without_text_is_the_name_of_the_error() -> None:
    assert reason(TimeoutError()) == "timeouterror"
