"""Which coding of a file a client gets: files that were compressed before lie beside it (RFC 9110 section 12.5.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable

# The codings by the extension that is added to the file's name.
CODINGS = {".br": b"br", ".zst": b"zstd", ".gz": b"gzip"}

# Another name of gzip (RFC 9110 section 8.4.1.3).
_ALIASES = {b"x-gzip": b"gzip"}
_WEIGHT = re.compile(rb"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)


def choose_coding(accepted: bytes, available: Iterable[bytes]) -> bytes:
    """Return the coding that the client likes best, empty for none; among equals the first of `available`.

    `accepted` is Accept-Encoding; without the field nothing is coded. What the client does not refuse may go as it is:
    that is taken only where no coding is liked as well.
    """
    weights = _parse_weights(accepted)
    others = weights.get(b"*", 0.0)
    best, most = b"", weights.get(b"identity", 0.0)
    for coding in available:
        weight = weights.get(coding, others)
        if weight > 0 and (weight > most or (not best and weight == most)):
            best, most = coding, weight
    return best


def accepts_html(accepted: bytes) -> bool:
    """Tell whether Accept names HTML, as a browser's does when a person goes to a page, and a script's does not."""
    return _parse_weights(accepted).get(b"text/html", 0.0) > 0


def _parse_weights(value: bytes) -> dict[bytes, float]:
    """Return the elements of a list by name, in lower case, with their weights; one that cannot be read is refused."""
    weights: dict[bytes, float] = {}
    for element in value.lower().split(b","):
        name, *parameters = [part.strip(b" \t") for part in element.split(b";")]
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith(b"q"):
                match = _WEIGHT.fullmatch(parameter.replace(b" ", b""))
                weight = float(match[1]) if match else 0.0
        if name:
            weights[_ALIASES.get(name, name)] = weight
    return weights
