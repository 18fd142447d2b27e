"""Each case in an interpreter of its own, whose default is strict, as Python 3.13's is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BACKEND = Path(__file__).parents[2] / "backend"
STRICT = """
import ssl
original = ssl.create_default_context

def strict_context(*arguments, **named):
    context = original(*arguments, **named)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context

ssl.create_default_context = ssl._create_default_https_context = strict_context
"""
RELAX = "from edge_backend.strict_hook import relax_strict\nrelax_strict()\n"
IS_STRICT = "print(bool(context.verify_flags & ssl.VERIFY_X509_STRICT))"


def run(code: str, folder: Path, python: str = sys.executable) -> str:
    done = subprocess.run(
        [python, "-c", code],
        env={"PYTHONPATH": os.pathsep.join([str(BACKEND), str(folder)])},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("make", "is_strict"),
    [
        ("ssl.create_default_context()", False),
        ("ssl.create_default_context(purpose=ssl.Purpose.SERVER_AUTH)", False),
        ("ssl._create_default_https_context()", False),
        # Whose certificates a server asks for is not what was turned off.
        ("ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)", True),
    ],
)
def test_default_for_clients_is_not_strict_any_more(make: str, is_strict: bool, tmp_path: Path) -> None:
    assert run(f"{STRICT}context = {make}\n{IS_STRICT}", tmp_path) == "True"
    assert run(f"{STRICT}{RELAX}context = {make}\n{IS_STRICT}", tmp_path) == str(is_strict)


def test_context_verifies_names_and_chains_as_before(tmp_path: Path) -> None:
    code = (
        f"{STRICT}{RELAX}c = ssl.create_default_context()\nprint(c.check_hostname, c.verify_mode == ssl.CERT_REQUIRED)"
    )
    assert run(code, tmp_path) == "True True"


def test_context_that_the_application_makes_strict_stays_so(tmp_path: Path) -> None:
    code = f"{STRICT}{RELAX}context = ssl.create_default_context()\ncontext.verify_flags |= ssl.VERIFY_X509_STRICT\n"
    assert run(code + IS_STRICT, tmp_path) == "True"


def test_alias_that_somebody_else_has_changed_is_left_alone(tmp_path: Path) -> None:
    code = f"{STRICT}ssl._create_default_https_context = ssl._create_unverified_context\n{RELAX}"
    code += "print(ssl._create_default_https_context is ssl._create_unverified_context)"
    assert run(code, tmp_path) == "True"


@pytest.mark.parametrize(("has_flag", "shown"), [(True, "0"), (False, "none")])
def test_urllib3_is_changed_at_its_import_if_it_has_the_flag(has_flag: bool, shown: str, tmp_path: Path) -> None:
    package = tmp_path / "urllib3/util"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "ssl_.py").write_text("from ssl import VERIFY_X509_STRICT\n" if has_flag else "")
    code = f"{RELAX}from urllib3.util import ssl_\nflag = getattr(ssl_, 'VERIFY_X509_STRICT', None)\n"
    assert run(code + "print('none' if flag is None else int(flag))", tmp_path) == shown


def test_real_urllib3_makes_contexts_that_are_not_strict(tmp_path: Path) -> None:
    pytest.importorskip("urllib3", reason="needs urllib3")
    code = (
        f"import ssl\n{RELAX}from urllib3.util.ssl_ import create_urllib3_context\ncontext = create_urllib3_context()\n"
    )
    assert run(code + IS_STRICT, tmp_path) == "False"


def test_python_313_is_strict_until_it_is_told_not_to_be(tmp_path: Path) -> None:
    python = shutil.which("python3.13")
    if python is None or subprocess.run([python, "-V"], capture_output=True, check=False).returncode:
        pytest.skip("needs python3.13")
    make = f"context = ssl.create_default_context()\n{IS_STRICT}"
    assert run(f"import ssl\n{make}", tmp_path, python) == "True"
    assert run(f"import ssl\n{RELAX}{make}", tmp_path, python) == "False"
