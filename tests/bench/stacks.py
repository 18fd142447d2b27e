"""The stacks that are compared: what each needs, how it is started, and where its access log is.

Each has its own defaults, TLS with the same certificate, one process (and thread) a side, and one access
log line a request at its front. The application behind nginx and haproxy trusts their forwarding fields,
so that in every stack it sees the client's address and `https`; `serving.check` proves that.
"""

import importlib.util
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TARGET = "app:app"
# h2load does not connect again where the front has had enough of a connection.
MANY = ("--keepalive-requests", "1000000000")


@dataclass(frozen=True, slots=True)
class Site:
    """Where one run of a stack lives: its folder, its port on 127.0.0.1, its certificate and key.

    `log` is whether the front writes an access log.
    """

    folder: Path
    port: int
    cert: Path
    key: Path
    log: bool


@dataclass(frozen=True, slots=True)
class Command:
    """One process to start, by the name of its output files; `front` is the side that the client sees."""

    name: str
    argv: tuple[str, ...]
    front: bool = True


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack: `missing()` names what is not installed or is empty, `commands(site)` writes its configuration.

    A `static` one serves the files of the site's folder `files` below /static/. A `proxy` has uvicorn behind it; one
    that `is_for_proxies` is compared with no others.
    """

    name: str
    title: str
    missing: Callable[[], str]
    commands: Callable[[Site], list[Command]]
    logs: tuple[str, ...]
    http2: bool = True
    static: bool = False
    proxy: bool = False
    is_for_proxies: bool = False


def all_stacks() -> dict[str, Stack]:
    """Return the stacks by name, edge first."""
    stacks = [
        Stack("edge", "edge", _needs_modules("edge.__main__"), _edge, ("edge.out", "edge.err"), static=True),
        Stack(
            "upstream",
            "edge + uvicorn",
            _needs_modules("uvicorn"),
            _upstream,
            ("edge.out", "edge.err"),
            proxy=True,
            is_for_proxies=True,
        ),
        Stack("nginx", "nginx + uvicorn", _needs("nginx"), _nginx, ("access.log",), static=True, proxy=True),
        Stack("haproxy", "haproxy + uvicorn", _needs("haproxy"), _haproxy, ("haproxy.out",), proxy=True),
        Stack("caddy", "caddy + uvicorn", _needs("caddy"), _caddy, ("access.log",), static=True, proxy=True),
        Stack(
            "uvicorn", "uvicorn, TLS", _needs_modules("uvicorn"), _uvicorn, ("uvicorn.out", "uvicorn.err"), http2=False
        ),
        Stack("granian", "granian, TLS", _needs_modules("granian"), _granian, ("granian.out", "granian.err")),
    ]
    return {stack.name: stack for stack in stacks}


def find_program(name: str) -> str | None:
    """Return the path of a program, also out of the sbin folders that a user's PATH may lack."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")


def _needs(program: str) -> Callable[[], str]:
    def missing() -> str:
        return "" if find_program(program) else f"the program {program}"

    return lambda: missing() or _needs_modules("uvicorn")()


def _needs_modules(module: str) -> Callable[[], str]:
    def missing() -> str:
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        return "" if found else f"the module {module}"

    return missing


def _edge(site: Site) -> list[Command]:
    files = ("--cert", str(site.cert), "--key", str(site.key))
    where = ("--bind", f"127.0.0.1:{site.port}", "--workers", "1", "--edges", "1", *MANY)
    log = "--access-log" if site.log else "--no-access-log"
    static = ("--static", f"/static={site.folder / 'files'}")
    return [Command("edge", (sys.executable, "-m", "edge", "serve", *files, *where, *static, log, TARGET))]


def _upstream(site: Site) -> list[Command]:
    config = site.folder / "edge.toml"
    config.write_text(UPSTREAM.format(folder=site.folder))
    files = ("--cert", str(site.cert), "--key", str(site.key))
    where = ("-c", str(config), "--bind", f"127.0.0.1:{site.port}", "--edges", "1", *MANY)
    log = "--access-log" if site.log else "--no-access-log"
    return [_application(site), Command("edge", (sys.executable, "-m", "edge", "serve", *files, *where, log))]


def _uvicorn(site: Site) -> list[Command]:
    files = ("--ssl-certfile", str(site.cert), "--ssl-keyfile", str(site.key))
    where = ("--host", "127.0.0.1", "--port", str(site.port))
    log = "--access-log" if site.log else "--no-access-log"
    return [Command("uvicorn", (sys.executable, "-m", "uvicorn", *where, *files, log, TARGET))]


def _granian(site: Site) -> list[Command]:
    files = ("--ssl-certificate", str(site.cert), "--ssl-keyfile", str(site.key))
    where = ("--host", "127.0.0.1", "--port", str(site.port), "--workers", "1")
    more = ("--interface", "asgi", "--access-log" if site.log else "--no-access-log")
    return [Command("granian", (sys.executable, "-m", "granian", *where, *files, *more, TARGET))]


def _nginx(site: Site) -> list[Command]:
    config = site.folder / "nginx.conf"
    log = site.folder / "access.log" if site.log else "off"
    config.write_text(NGINX.format(folder=site.folder, port=site.port, cert=site.cert, key=site.key, log=log))
    argv = (find_program("nginx") or "nginx", "-p", str(site.folder), "-e", "error.log", "-c", str(config))
    return [_application(site), Command("nginx", argv)]


def _haproxy(site: Site) -> list[Command]:
    pem = site.folder / "haproxy.pem"
    pem.touch(mode=0o600)
    pem.write_text(site.cert.read_text() + site.key.read_text())
    config = site.folder / "haproxy.cfg"
    log = "log stdout format raw local0" if site.log else ""
    config.write_text(HAPROXY.format(folder=site.folder, port=site.port, pem=pem, log=log))
    argv = (find_program("haproxy") or "haproxy", "-db", "-f", str(config))
    return [_application(site), Command("haproxy", argv)]


def _caddy(site: Site) -> list[Command]:
    config = site.folder / "Caddyfile"
    log = f"log {{ \n output file {site.folder}/access.log \n }}" if site.log else ""
    config.write_text(CADDY.format(folder=site.folder, port=site.port, cert=site.cert, key=site.key, log=log))
    argv = (find_program("caddy") or "caddy", "run", "--adapter", "caddyfile", "--config", str(config))
    # One thread, as the others.
    return [_application(site), Command("caddy", ("/usr/bin/env", "GOMAXPROCS=1", *argv))]


def _application(site: Site) -> Command:
    where = ("--uds", str(site.folder / "app.sock"), "--no-access-log", "--forwarded-allow-ips", "*")
    return Command("uvicorn", (sys.executable, "-m", "uvicorn", *where, TARGET), front=False)


UPSTREAM = """\
[[site]]
[[site.route]]
upstream = "unix:{folder}/app.sock"
"""

# As Debian ships it, but: one worker process (as each stack has), TLS 1.2 and 1.3 only, files in our folder,
# kept-alive connections to the application, forwarding fields, 4096 connections for the idle ones (768), HTTP/2, and no
# end to the requests on a connection (1000).
NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  sendfile on;
  tcp_nopush on;
  types_hash_max_size 2048;
  gzip on;
  access_log {log};
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_prefer_server_ciphers on;
  upstream app {{ server unix:{folder}/app.sock; keepalive 32; }}
  server {{
    listen 127.0.0.1:{port} ssl http2;
    keepalive_requests 1000000000;
    server_name localhost;
    ssl_certificate {cert};
    ssl_certificate_key {key};
    location /static/ {{ alias {folder}/files/; }}
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Port $server_port;
    }}
  }}
}}
"""

# Debian's defaults (TLS options, timeouts, httplog), but: one thread, and the log goes to standard output.
HAPROXY = """\
global
  {log}
  nbthread 1
  ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets
defaults
  log global
  mode http
  option httplog
  option dontlognull
  timeout connect 5000
  timeout client 50000
  timeout server 50000
frontend https
  bind 127.0.0.1:{port} ssl crt {pem} alpn h2,http/1.1
  option forwardfor
  http-request set-header X-Forwarded-Proto https
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  default_backend app
backend app
  server app unix@{folder}/app.sock
"""

# Its defaults, but: no administration, no certificates of its own, the log to a file.
CADDY = """\
{{
  admin off
  auto_https off
}}
https://localhost:{port} {{
  bind 127.0.0.1
  tls {cert} {key}
  {log}
  handle_path /static/* {{
    root * {folder}/files
    file_server
  }}
  handle {{
    reverse_proxy unix/{folder}/app.sock
  }}
}}
"""
