"""What people type, row by row, and what it means: the table of test_rows.py."""
# ruff: noqa: E501  # a row is a line

from __future__ import annotations

A: dict[str, object] = {"app": "app:app"}
FILES = {"cert": "cert.pem", "key": "key.pem"}
LOCAL = {"bind": "127.0.0.1:8000", "proxy_headers": True}
QUIET = {**LOCAL, "access_log": False}

# (row, what is typed, what it means in our own words)
LINES: list[tuple[str, str, dict[str, object]]] = [
    ("C1", "edge serve app:app", A),
    ("C1", "edge serve app", {"app": "app"}),
    ("C1", "edge uvicorn app:app", {**A, **LOCAL, "workers": 1}),
    ("C2", "edge serve app:app --reload", {**A, "reload": True}),
    ("C3", "edge serve app:app --reload --reload-dir / --reload-delay 0.25", {**A, "reload": True, "reload_dir": "/", "reload_delay": 0.25}),
    ("C3", "edge serve app:app --reload --reload-include '*.html' --reload-exclude 'a*'", {**A, "reload": True, "reload_include": "*.html", "reload_exclude": "a*"}),
    ("C3", "edge serve app:app --reload --reload-paths / --reload-extra-file /etc/a.ini", {**A, "reload": True, "reload_dir": ["/", "/etc"], "reload_include": "a.ini"}),
    ("C4", "edge serve app:app --workers 4", {**A, "workers": 4}),
    ("C4", "edge serve app:app -w auto", A),
    ("C5", "edge serve app:app --uds /tmp/edge.sock --uds-permissions 660", {**A, "bind": "unix:/tmp/edge.sock"}),
    ("C5", "edge uvicorn app:app --uds /tmp/u.sock", {**A, "uds": "/tmp/u.sock", "uds_permissions": "666", "workers": 1, "proxy_headers": True}),
    ("C6", "edge serve app:app --fd 3", {**A, "bind": "fd://3"}),
    ("C7", "edge serve --fd 0 app:app", {**A, "bind": "fd://0"}),
    ("C8", "edge serve --fd 7 app:app", {**A, "bind": "fd://7"}),
    ("C9", "edge gunicorn -w 4 -k uvicorn.workers.UvicornWorker app:app", {**A, **QUIET, "workers": 4}),
    ("C9", "edge gunicorn -w 4 -k uvicorn.workers.UvicornH11Worker app:app", {**A, **QUIET, "workers": 4, "http": "h11"}),
    ("C10", "edge gunicorn app:app -w 4 -k uvicorn_worker.UvicornWorker --bind 0.0.0.0:8000", {**A, **QUIET, "bind": "0.0.0.0:8000", "workers": 4}),
    ("C11", "edge gunicorn -w 4 -b 0.0.0.0:8000 app:app", {**A, **QUIET, "bind": "0.0.0.0:8000", "workers": 4, "threads": 1}),
    ("C11", "edge serve -w 4 -b 0.0.0.0:8000 app:app", {**A, "bind": "0.0.0.0:8000", "workers": 4}),
    ("C12", "edge gunicorn --workers=2 'factory:create_app()'", {**QUIET, "app": "factory:create_app()", "workers": 2, "threads": 1}),
    ("C12", "edge serve \"factory:create_app('x', n=1)\"", {"app": "factory:create_app('x', n=1)"}),
    ("C13", "edge serve myproject.wsgi", {"app": "myproject.wsgi"}),
    ("C14", "edge serve --env DJANGO_SETTINGS_MODULE=myproject.settings myproject.wsgi", {"app": "myproject.wsgi", "env": "DJANGO_SETTINGS_MODULE=myproject.settings"}),
    ("C15", "edge gunicorn --paste development.ini -b :8080 --chdir /", {**QUIET, "bind": ":8080", "chdir": "/", "paste": "development.ini", "workers": 1, "threads": 1}),
    ("C16", "edge serve app:app --bind 0.0.0.0:8000 --insecure-bind 0.0.0.0:80", {**A, "bind": "0.0.0.0:8000", "http_bind": "0.0.0.0:80"}),
    ("C17", "edge serve --host 0.0.0.0 --port 8000 app:app", {**A, "host": "0.0.0.0", "port": 8000}),
    ("C17", "edge serve -p edge.pid app:app", {**A, "pid": "edge.pid"}),
    ("F1", "edge serve app:app --host 0.0.0.0 --port 0", {**A, "host": "0.0.0.0", "port": 0}),
    ("F2", "edge serve app:app --log-level TRACE", {**A, "log_level": "trace"}),
    ("F3", "edge serve app:app --no-access-log", {**A, "access_log": False}),
    ("F3", "edge serve app:app --access-log --access-logfile - --access-log-format json", {**A, "access_logfile": "-", "access_log_format": "json"}),
    ("F3", "edge serve app:app --access-logfile syslog: --access-log-format '%(h)s %(D)s'", {**A, "access_logfile": "syslog:", "access_log_format": "%(h)s %(D)s"}),
    ("F4", "edge serve app:app --log-config ./logging.yaml", {**A, "log_config": "./logging.yaml"}),
    ("F5", "edge serve app:app --proxy-headers", {**A, "trusted_proxy": "127.0.0.1,::1"}),
    ("F5", "edge serve app:app --no-proxy-headers", A),
    ("F5", "edge serve app:app --proxy-headers --trust-forwarded-host", {**A, "trusted_proxy": "127.0.0.1,::1", "trust_forwarded_host": True}),
    ("F6", "edge serve app:app --proxy-headers --forwarded-allow-ips '*' --forwarded-hops 1", {**A, "trusted_proxy": "*", "forwarded_hops": 1}),
    ("F7", "edge serve app:app --root-path /api/", {**A, "root_path": "/api"}),
    ("F8", "edge serve app:app --env-file .env --env-files other.env", {**A, "env_file": [".env", "other.env"]}),
    ("F9", "edge serve app:app --app-dir / --pythonpath /usr,/tmp", {**A, "app_dir": "/", "pythonpath": ["/usr", "/tmp"]}),
    ("F9", "edge serve app:app --working-dir /", {**A, "app_dir": "/"}),
    ("F10", "edge serve 'factory:create_app()' --factory", {"app": "factory:create_app()", "factory": True}),
    ("F11", "edge serve app:app --loop uvloop", {**A, "loop": "uvloop"}),
    ("F12", "edge serve app:app --http httptools", {**A, "http": "httptools"}),
    ("F13", "edge serve app:app --ws websockets", {**A, "ws": "websockets"}),
    ("F14", "edge serve app:app --ws-max-size 1024 --ws-max-queue 32 --ws-ping-interval 9 --ws-ping-timeout 8 --ws-per-message-deflate false", {**A, "ws_max_size": 1024, "ws_max_queue": 32, "ws_ping_interval": 9, "ws_ping_timeout": 8, "ws_per_message_deflate": False}),
    ("F15", "edge serve app:app --lifespan off --timeout-startup 9", {**A, "lifespan": "off", "startup_timeout": 9}),
    ("F16", "edge serve app:app --timeout-keep-alive 75", A),
    ("F16", "edge serve app:app --timeout-keep-alive 5 --timeout-request-headers 6 --timeout-request-body 60", {**A, "keepalive_timeout": 5, "header_timeout": 6, "body_idle_timeout": 60}),
    ("F17", "edge serve app:app --limit-concurrency 1000 --queue-size 9 --queue-timeout 3", {**A, "worker_concurrency": 1000, "queue": 9, "queue_timeout": 3}),
    ("F18", "edge serve app:app --interface WSGI", {**A, "interface": "wsgi"}),
    ("F18", "edge serve app:app --interface asginl", {**A, "interface": "asginl"}),
    ("F19", "edge serve app:app --limit-max-requests 500 --limit-max-requests-jitter 50", {**A, "max_requests": 500, "max_requests_jitter": 50}),
    ("F19", "edge serve app:app --max-requests 500 --max-requests-jitter 50", {**A, "max_requests": 500, "max_requests_jitter": 50}),
    ("F20", "edge serve app:app --backlog 2048", A),
    ("F21", "edge serve app:app --ssl-keyfile=key.pem --ssl-certfile=cert.pem", {**A, **FILES}),
    ("F21", "edge serve app:app --ssl-certificate cert.pem --key key.pem --keyfile-password x", {**A, **FILES, "key_password": "x"}),
    ("F22", "edge serve app:app --cert cert.pem --key key.pem --ssl-ca-certs ca.pem --ssl-cert-reqs 2 --ssl-ciphers HIGH --ssl-version 17", {**A, **FILES, "client_ca": "ca.pem", "client_auth": "require", "ciphers": "HIGH"}),
    ("F22", "edge serve app:app --cert cert.pem --key key.pem --ca-certs ca.pem --cert-reqs optional --ssl-version tls1.2", {**A, **FILES, "client_ca": "ca.pem", "client_auth": "optional"}),
    ("F23", "edge gunicorn -k asgi --keyfile key.pem --certfile cert.pem app:app", {**A, **QUIET, **FILES, "workers": 1}),
    ("F24", "edge serve app:app --no-server-header --no-date-header", {**A, "server_header": False, "date_header": False}),
    ("F24", "edge serve app:app --server-header --date-header", A),
    ("F25", "edge serve app:app --header X:y --header 'Z: a b'", {**A, "header": [("X", "y"), ("Z", "a b")]}),
    ("F26", "edge serve -w 2 -k gthread -b :1 -e A=1 app:app", {**A, "workers": 2, "worker_class": "gthread", "bind": ":1", "env": "A=1"}),
    ("F27", "edge serve app:app --timeout-request 30 --timeout-worker 60", {**A, "app_timeout": 30, "worker_timeout": 60}),
]  # fmt: skip

# (row, what is typed, the one line that says what to type instead)
REFUSED = [
    ("C16", "edge serve app:app --quic-bind :443", "--quic-bind: HTTP/3 is not served; leave it out"),
    ("C18", "edge serve app:app --wokers 2", "--wokers: unknown option; did you mean --workers"),
    (
        "F6",
        "edge serve app:app --forwarded-allow-ips 10.0.0.1/8",
        "--trusted-proxy '10.0.0.1/8': host bits are set; use",
    ),
    ("F11", "edge serve app:app --loop iocp", "--loop 'iocp': uvicorn has dropped it; use asyncio"),
    ("F12", "edge serve app:app --http 2", "--http '2': names an implementation here; for versions use --http2 on or"),
    ("F12", "edge serve app:app --http-versions 1,2", "--http-versions: use --http2 on or --http2 off"),
    (
        "F18",
        "edge serve app:app --interface rsgi",
        "--interface 'rsgi': only granian speaks it; serve the application's",
    ),
    ("F22", "edge serve app:app --ssl-version 3", "--tls-min-version '3': TLS 1.0 and 1.1 are broken (RFC 8996); use"),
    (
        "F26",
        "edge serve app:app -t 30",
        "-t: gunicorn's and daphne's -t mean different things; use --worker-timeout for a",
    ),
    ("F26", "edge serve app:app --daemon", "--daemon: a server that leaves its terminal cannot say why it failed; use"),
    (
        "F27",
        "edge serve app:app --timeout 30",
        "--timeout: means a worker that hangs to gunicorn; use --worker-timeout for",
    ),
]
