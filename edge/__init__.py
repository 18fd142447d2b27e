"""A TLS edge and a worker pool around an ASGI application."""

import os
import sys

__version__ = "0.1.0"


def run(app: str, **options: object) -> None:
    """Serve the ASGI application `app`, "MODULE:ATTR", until a signal ends it: `edge serve` from Python.

    The options are those of `edge serve`, as Python names: `run("shop:app", cert="fullchain.pem", max_body="10MiB")`.
    `EDGE_*` variables count for what is not given. Without `app_dir`, the module is looked for beside the running
    script. Call it in the main thread, where signals arrive.

    Raises SystemExit after one line on standard error: 2 if what was asked for cannot be done, 1 if the application
    does not start.
    """
    # Imported here: `import edge` must cost nothing where only the version is asked for.
    from edge.envfile import enter_folder, read_settings
    from edge.errors import ConfigError, EdgeError
    from edge.server import serve
    from edge_certs.errors import CertificateError

    if "app_dir" not in options and "EDGE_APP_DIR" not in os.environ:
        options["app_dir"] = _script_folder()
    try:
        started_in = os.getcwd()
        enter_folder({"app": app, **options}, os.environ)
        code = serve(lambda: read_settings({"app": app, **options}, os.environ), started_in=started_in)
    except (EdgeError, CertificateError) as error:
        for line in str(error).splitlines():
            print(f"edge: {line}", file=sys.stderr, flush=True)
        code = error.exit_code if isinstance(error, EdgeError) else ConfigError.exit_code
    if code:
        raise SystemExit(code)


def _script_folder() -> str | None:
    """Return where the running script's own imports come from; None for the current directory."""
    # With -P or PYTHONSAFEPATH, Python has not put the script's folder there.
    first = "" if sys.flags.safe_path else sys.path[0]
    return first if os.path.isdir(first) else None
