"""The static table of HPACK (RFC 7541 appendix A), entries 1 to 61 in order."""

from __future__ import annotations

from typing import Final

_TEXT: Final = """
:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate
"""

STATIC_TABLE: Final = tuple(
    (name.encode(), value.encode()) for name, _, value in (line.partition(" ") for line in _TEXT.split("\n")[1:-1])
)
"""Names and values; entry 1 is the first."""

TABLE_SIZE: Final = 4096
"""The dynamic table's size in bytes until a setting says otherwise (RFC 9113 section 6.5.2)."""
ENTRY_OVERHEAD: Final = 32
"""What an entry counts for beside its name and value (RFC 7541 section 4.1)."""
