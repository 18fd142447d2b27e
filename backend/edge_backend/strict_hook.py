"""Undoes what Python 3.13 added to verification: VERIFY_X509_STRICT, which many companies' certificates do not pass.

Only where a default is made: `ssl.create_default_context`, and urllib3, which asks for the flag by itself. Signatures,
names, dates and the chain are verified as before; a context that an application makes strict itself stays so.
"""

from __future__ import annotations

import functools
import ssl
from types import ModuleType
from typing import Any

from .import_hook import when_imported

URLLIB3 = "urllib3.util.ssl_"


def relax_strict() -> None:
    """Let contexts for clients be as strict as Python 3.12's; to be called before the application is imported."""
    original = ssl.create_default_context

    @functools.wraps(original)
    def create_default_context(*arguments: Any, **named: Any) -> ssl.SSLContext:
        context = original(*arguments, **named)
        # A server's context is for those who ask its clients for certificates: not what was turned off.
        if context.protocol is not ssl.PROTOCOL_TLS_SERVER:
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    ssl.create_default_context = create_default_context
    # http.client's name for the same function.
    if vars(ssl).get("_create_default_https_context") is original:
        vars(ssl)["_create_default_https_context"] = create_default_context
    when_imported(URLLIB3, _relax_urllib3)


def _relax_urllib3(module: ModuleType) -> None:
    if hasattr(module, "VERIFY_X509_STRICT"):
        vars(module)["VERIFY_X509_STRICT"] = ssl.VerifyFlags(0)
