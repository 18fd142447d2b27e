"""Each case in an interpreter of its own, which has not imported certifi."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

BACKEND = Path(__file__).parents[2] / "backend"


def run(code: str, bundle: Path, **environ: str) -> str:
    program = f"from edge_backend.certifi_hook import answer_certifi\nBUNDLE = {str(bundle)!r}\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": os.pathsep.join([str(BACKEND), *filter(None, [environ.pop("path", "")])]), **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle.pem"
    path.write_text("# roots\n")
    return path


@pytest.mark.parametrize(
    "use",
    [
        "import certifi; print(certifi.where(), certifi.contents())",
        "from certifi import contents, where; print(where(), contents())",
        "from certifi.core import contents, where; print(where(), contents())",
        "import importlib; certifi = importlib.import_module('certifi'); print(certifi.where(), certifi.contents())",
    ],
)
def test_certifi_answers_with_the_bundle(use: str, bundle: Path) -> None:
    assert run(f"answer_certifi(BUNDLE)\n{use}", bundle) == f"{bundle} # roots\n\n"


def test_certifi_that_is_imported_already_answers_with_the_bundle(bundle: Path) -> None:
    assert run("import certifi\nanswer_certifi(BUNDLE)\nprint(certifi.where())", bundle) == f"{bundle}\n"


def test_certifi_is_not_imported_before_somebody_wants_it(bundle: Path) -> None:
    assert run("import sys\nanswer_certifi(BUNDLE)\nprint('certifi' in sys.modules)", bundle) == "False\n"


def test_files_of_certifi_can_still_be_read_as_resources(bundle: Path) -> None:
    code = """
from importlib.resources import files
answer_certifi(BUNDLE)
print("BEGIN CERTIFICATE" in files("certifi").joinpath("cacert.pem").read_text("ascii"))"""
    assert run(code, bundle) == "True\n"


def test_other_modules_are_found_as_before(bundle: Path) -> None:
    assert run("answer_certifi(BUNDLE)\nimport wave; print(wave.__name__)", bundle) == "wave\n"


@pytest.mark.parametrize(
    "before",
    [
        "import importlib.util; assert importlib.util.find_spec('certifi')",
        "import certifi; del sys.modules['certifi'], sys.modules['certifi.core']",
        "import certifi, importlib; importlib.reload(certifi)",
    ],
)
def test_certifi_that_was_looked_for_before_answers_with_the_bundle(before: str, bundle: Path) -> None:
    code = f"import sys\nanswer_certifi(BUNDLE)\n{before}\nimport certifi\nprint(certifi.where())"
    assert run(code, bundle) == f"{bundle}\n"


def test_import_of_certifi_hides_no_finder_from_another_thread(bundle: Path) -> None:
    code = """
import sys
answer_certifi(BUNDLE)
before = list(sys.meta_path)
seen = []

class Last:
    @staticmethod
    def find_spec(name, path=None, target=None):
        seen.append(list(sys.meta_path) == [Last, *before])

sys.meta_path.insert(0, Last)
import certifi
print(set(seen), len(seen) > 1, sys.meta_path[1:] == before)"""
    assert run(code, bundle) == "{True} True True\n"


def test_other_modules_of_the_same_zip_file_are_left_alone(bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "packages.zip", "w") as packages:
        packages.writestr("certifi.py", "")
        packages.writestr("neighbour.py", "")
    code = """
answer_certifi(BUNDLE)
import certifi, neighbour
print(certifi.__file__.endswith("packages.zip/certifi.py"), certifi.where(), hasattr(neighbour, "where"))"""
    assert run(code, bundle, path=str(tmp_path / "packages.zip")) == f"True {bundle} False\n"


def test_certifi_that_is_nowhere_stays_nowhere_until_it_is_there(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "certifi.py").write_text("def where(): return 'another'\n")
    code = f"""
import importlib, sys
sys.path = [path for path in sys.path if "site-packages" not in path]
answer_certifi(BUNDLE)
try:
    import certifi
except ModuleNotFoundError as error:
    print(error)
sys.path.append({str(tmp_path)!r})
importlib.invalidate_caches()
import certifi
print(certifi.where())"""
    assert run(code, bundle) == f"No module named 'certifi'\n{bundle}\n"


def test_folder_that_is_only_called_certifi_is_left_alone(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "certifi").mkdir()
    code = f"""
import sys
sys.path = [path for path in sys.path if "site-packages" not in path] + [{str(tmp_path)!r}]
answer_certifi(BUNDLE)
import certifi
print(hasattr(certifi, "core"))"""
    assert run(code, bundle) == "False\n"


def test_ssl_is_left_alone(bundle: Path) -> None:
    code = """
import ssl
before = dict(vars(ssl)), dict(vars(ssl.SSLContext))
answer_certifi(BUNDLE)
import certifi
print(before == (dict(vars(ssl)), dict(vars(ssl.SSLContext))))"""
    assert run(code, bundle) == "True\n"
