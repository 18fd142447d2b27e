"""What the edge holds on to between a client and the application, and what it compresses on the way."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from edge.errors import ConfigError
from edge.options import GIB, KIB, MIB, choice, computed, directory, setting, size


@dataclass(frozen=True, slots=True)
class BufferSettings:
    """How much of a request is held until it is whole."""

    request_buffering: Literal["auto", "off", "on"] = setting(
        "auto",
        choice("auto", "off", "on"),
        "--request-buffering",
        help="bodies that wait until they are whole: auto = those of up to 64KiB, and all for WSGI; on = all",
    )

    def holds_all(self, interfaces: Iterable[str]) -> bool:
        """Tell whether bodies of any size will wait, as far as that is known before applications are loaded."""
        return self.request_buffering == "on" or (self.request_buffering == "auto" and "wsgi" in interfaces)


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """Where bodies wait until they are whole. Bytes; `max_size` is for all edge processes together."""

    folder: str = computed(
        tempfile.gettempdir,
        directory(),
        "--spool-dir",
        shown="the system's for temporary files",
        help="where bodies of more than 64KiB wait until they are whole",
    )
    max_size: int = setting(2 * GIB, size(MIB, 2**50), "--spool-max", help="what they may take there (413, 503)")


@dataclass(frozen=True, slots=True)
class CompressSettings:
    """Which answers are compressed. Bytes."""

    mode: Literal["off", "auto", "zstd", "br", "gzip"] = setting(
        "off",
        choice("off", "auto", "zstd", "br", "gzip"),
        "--compress",
        help="compress answers that are text; auto = with what the client likes best of zstd, br and gzip",
    )
    min_size: int = setting(KIB, size(0, GIB), "--compress-min", help="smallest answer that is compressed")
    secrets: Literal["never", "always"] = setting(
        "never",
        choice("never", "always"),
        "--compress-secrets",
        help="always = also answers to requests with cookies or credentials, which can give secrets away (BREACH)",
    )


def refuse_unusable_spool(settings: SpoolSettings) -> None:
    """Write to the folder where bodies will wait: better now than when the first large request comes.

    Raises ConfigError if that fails.
    """
    try:
        with tempfile.TemporaryFile(dir=settings.folder, buffering=0) as file:
            file.write(b"\0")
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        message = f"--spool-dir {settings.folder!r}: {why}; name a folder that this user may write to"
        raise ConfigError(message) from None
