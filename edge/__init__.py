"""A TLS edge and a worker pool around an ASGI application."""

import os
import sys

# Nothing else is imported here: `import edge` must cost nothing where only the version is asked for.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from edge.embedding import Config, Server

__version__ = "0.1.0"
__all__ = ["Config", "Server", "__version__", "run"]


def run(app: "str | Callable[..., Any]", **options: "Any") -> None:
    """Serve an application until a signal ends it: `edge serve` from Python.

    `app` is an import string, "MODULE:ATTR", which worker processes import; or the application itself, which is served
    in this process then (see `edge.Server`). The options are those of `edge serve`, as Python names, and those of
    `uvicorn.run`: `run("shop:app", cert="fullchain.pem", max_body="10MiB")`. `EDGE_*` variables count for what is not
    given. Without `app_dir`, the module is looked for beside the running script. Call it in the main thread, where
    signals arrive.

    Raises SystemExit after one line on standard error: 2 if what was asked for cannot be done, 1 if the application
    does not start, 3 if the application itself is given where processes would have to import it.
    """
    from edge.embedding import print_cause, run_application
    from edge.errors import ConfigError, EdgeError
    from edge_certs.errors import CertificateError

    try:
        code = _run_by_name(app, options) if isinstance(app, str) else run_application(app, options)
    except (EdgeError, CertificateError) as error:
        print_cause(error)
        for line in str(error).splitlines():
            print(f"edge: {line}", file=sys.stderr, flush=True)
        code = error.exit_code if isinstance(error, EdgeError) else ConfigError.exit_code
    if code:
        raise SystemExit(code)


def _run_by_name(app: str, options: "dict[str, Any]") -> int:
    from edge.envfile import enter_folder, read_settings
    from edge.keywords import options_of_processes
    from edge.server import serve

    if "app_dir" not in options and "EDGE_APP_DIR" not in os.environ:
        options["app_dir"] = _script_folder()
    values = {"app": app, **options_of_processes(options)}
    started_in = os.getcwd()
    enter_folder(values, os.environ)
    return serve(lambda: read_settings(values, os.environ), started_in=started_in)


def _script_folder() -> str | None:
    """Return where the running script's own imports come from; None for the current directory."""
    # With -P or PYTHONSAFEPATH, Python has not put the script's folder there.
    first = "" if sys.flags.safe_path else sys.path[0]
    return first if os.path.isdir(first) else None


def __getattr__(name: str) -> "Any":
    if name not in ("Config", "Server"):
        raise AttributeError(f"module 'edge' has no attribute {name!r}")
    from edge import embedding

    return getattr(embedding, name)
