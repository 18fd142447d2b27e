"""The Dockerfile and the compose stack, run as an engine would: `containers` says what that proves, and what not."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from edge_certs.compose import IMAGE_USER
from tests.process.containers import (
    Build,
    Container,
    Network,
    base_environment,
    container,
    merge,
    mounted,
    need_namespaces,
    python_path,
    read_dockerfile,
)
from tests.process.server import DEADLINE, ROOT, clean_environment

EXAMPLE = ROOT / "examples/compose"


def test_dockerfile_ends_as_a_user_without_rights_and_asks_the_server_how_it_is() -> None:
    instructions = read_dockerfile(ROOT / "Dockerfile")
    words = [word for word, _ in instructions]
    assert [rest for word, rest in instructions if word == "USER"] == [f"{IMAGE_USER}:{IMAGE_USER}"]
    assert words.index("USER") > max(index for index, word in enumerate(words) if word == "RUN")
    assert words.count("FROM") == 2  # nothing of the build is in the image
    assert "HEALTHCHECK" in words


def test_build_context_has_what_the_dockerfile_copies_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!").removesuffix("/**") for line in lines if line.startswith("!")}
    copied = [
        name
        for word, rest in read_dockerfile(ROOT / "Dockerfile")
        if word == "COPY" and not rest.startswith("--from")
        for name in rest.split()[:-1]
    ]
    assert lines[0] == "**"
    assert set(copied) == allowed


def test_steps_of_the_dockerfile_make_an_edge_that_serves(tmp_path: Path) -> None:
    """The same commands in the same folders: the virtual environment, the installation, the user, the health check."""
    need_namespaces()
    image = Build(tmp_path / "image", ROOT).run(ROOT / "Dockerfile")
    open_to_all(tmp_path)
    shutil.copy(ROOT / "examples/hello.py", image.folders["/app"] / "app.py")
    environment = {**image.environment, "HOME": "/", "EDGE_WORKERS": "1"}
    environment["PATH"] = environment["PATH"].replace("$PATH", python_path())
    network, data = Network(["edge"], tmp_path), {"/data": image.folders["/data"]}
    mounts = {place: image.folders[place] for place in ("/opt", "/app")}

    def inside(command: list[str]) -> list[str]:
        words = ["sh", "-c", f"cd /app && exec {shlex.join(command)}"]
        return mounted(data, network.command("edge", words, mounts=mounts, user=image.user))

    def run(command: list[str]) -> subprocess.CompletedProcess[str]:
        words, seconds = inside(command), DEADLINE
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=seconds, check=False)

    with network.up({}):
        assert run(image.healthcheck).returncode != 0
        with container(inside(image.command), environment, tmp_path / "log", "/") as running:
            running.wait_line("certificate for localhost signed by /data/edge/dev/root.pem")
            health = run(image.healthcheck)
            assert (health.returncode, "listening on https://0.0.0.0:8443" in health.stdout) == (0, True), health
            root = image.folders["/data"] / "edge/dev/root.pem"
            assert root.stat().st_uid == IMAGE_USER
            curl = ["curl", "--silent", "--show-error", "--noproxy", "*", "--cacert", "/data/edge/dev/root.pem"]
            assert run([*curl, "https://localhost:8443/"]).stdout == "Hello, world!\n"


def open_to_all(folder: Path) -> None:
    """Let the user of a container come to `folder`, as pytest makes its own for itself alone."""
    for each in (folder, *folder.parents):
        if each.stat().st_uid == 0 and not each.stat().st_mode & 0o001:
            each.chmod(each.stat().st_mode | 0o001)


@dataclass
class Stack:
    """The two services of the example, and the host's own root."""

    network: Network
    root: Path
    shop: Container
    folder: Path
    environments: dict[str, dict[str, str]]

    def ask(self, where: str, url: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Ask by curl from the namespace of a service, with these options."""
        command = ["curl", "--silent", "--show-error", "--noproxy", "*", *options, url]
        return subprocess.run(
            self.network.command(where, command, mounts={}),
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`edge compose init` and then what `docker compose up` would run."""
    need_namespaces()
    folder = tmp_path_factory.mktemp("stack")
    open_to_all(folder)
    project = folder / "project"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__"))
    environ = clean_environment(EDGE_HOME=str(folder / "home"))
    subprocess.run(
        [sys.executable, "-m", "edge", "compose", "init"], cwd=project, env=environ, check=True, timeout=DEADLINE
    )
    files = [yaml.safe_load((project / name).read_text()) for name in ("compose.yaml", "compose.override.yaml")]
    services = merge(files[0], files[1])
    network = Network([*services, "host"], folder)
    aliases = {name: service["networks"]["default"]["aliases"] for name, service in services.items()}
    with ExitStack() as running:
        running.enter_context(network.up(aliases))
        started, environments = {}, {}
        for name in ("stock", "shop"):
            service = services[name]
            mounts = {item["target"]: project / item["source"] for item in service["volumes"]}
            # In the image, `edge` is on the PATH; here it is this tree's.
            words = shlex.split(service["command"])
            assert words[0] == "edge"
            command = ["sh", "-c", f"cd /app && exec {shlex.join([sys.executable, '-m', *words])}"]
            environments[name] = {**base_environment(), **service["environment"]}
            inside = network.command(name, command, mounts=mounts, user=service["user"])
            started[name] = running.enter_context(container(inside, environments[name], folder / f"{name}.log", "/"))
            started[name].wait_line("certificate for localhost signed by /run/edge/authority.pem, valid until")
        yield Stack(network, folder / "home/dev/root.pem", started["shop"], folder, environments)


def test_shop_asks_the_stock_over_https_that_it_trusts(stack: Stack) -> None:
    """From another machine of the network, which trusts the host's root as a browser after --install does."""
    address = stack.network.addresses["shop"]
    options = ("--cacert", str(stack.root), "--connect-to", f"localhost:8443:{address}:8443")
    done = stack.ask("host", "https://localhost:8443/", *options)
    assert (done.stdout, done.stderr) == ("In stock: 7 apples\n", "")
    done = stack.ask("host", "https://shop.internal:8443/", "--cacert", str(stack.root))
    assert done.stdout == "In stock: 7 apples\n"


def test_without_the_root_nobody_trusts_it(stack: Stack) -> None:
    done = stack.ask("host", "https://stock.internal:8443/")
    assert done.returncode == 60
    assert "unable to get local issuer certificate" in done.stderr


def test_key_of_the_root_is_in_no_container(stack: Stack) -> None:
    secret = stack.root.with_name("root.key").read_bytes().splitlines()[1]
    project = stack.folder / "project"
    assert not [path for path in project.rglob("*") if path.is_file() and secret in path.read_bytes()]
    for environment in stack.environments.values():
        assert not (Path(environment["EDGE_HOME"]) / "dev").exists()


def test_services_run_as_a_user_without_rights(stack: Stack) -> None:
    status = Path(f"/proc/{stack.shop.process.pid}/status").read_text()
    [uids] = [line.split()[1:] for line in status.splitlines() if line.startswith("Uid:")]
    assert set(uids) == {str(IMAGE_USER)}
    assert "NoNewPrivs:\t1" in status
