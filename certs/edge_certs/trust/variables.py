"""The variables by which libraries and tools are told their roots, and the files that they name.

Every variable names the same merged bundle. What the operator had set is not lost: its certificates are in the bundle.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from edge_certs.errors import CertificateError, place
from edge_certs.files import locked, write_public
from edge_certs.trust.bundle import Source, encode_bundle, find_unusable, read_base, read_named_source
from edge_certs.trust.store import TrustStore

# These replace a library's roots, so they name the whole bundle. Not PGSSLROOTCERT: when it is set, libpq verifies
# servers that it did not verify before, and fails on those that never had a public certificate.
BUNDLE_VARIABLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "NPM_CONFIG_CAFILE",
    "BUNDLE_SSL_CA_CERT",
    "HTTPLIB2_CA_CERTS",
    "WEBSOCKET_CLIENT_CA_BUNDLE",
    "NIX_SSL_CERT_FILE",
    "HEX_CACERTS_PATH",
)
# These add to what Node and Deno have built in; more would only make each start slower.
EXTRA_VARIABLES = ("NODE_EXTRA_CA_CERTS", "DENO_CERT")

# The operator's own files, once their variables name our bundle: without it, `edge trust env` in a shell that has
# already read it would forget them.
MERGED_VARIABLE = "EDGE_TRUST_MERGED"

_ESCAPED_SEPARATOR = f"%{ord(os.pathsep):02X}"

# The first line of each bundle that variables name: what is needed to write it anew without that environment.
RECIPE = b"# edge trust recipe: "

# The first line of a bundle of one server, which that server alone writes.
OF_SERVER = b"# edge serve: the roots of one server, with those of its --outbound-ca\n"


@dataclass(frozen=True, slots=True)
class Trust:
    """What a process is to be told: `variables`, which name `bundle` (all roots) and `extra` (none of the public).

    `extra` is None when there is nothing in it. `remarks` are lines for the operator, such as a file that is missing.
    """

    variables: Mapping[str, str]
    bundle: Path
    extra: Path | None
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How a bundle is made, but for what was added: the public roots, and the operator's files."""

    base: str
    merged: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Own:
    """What the operator had set: files with roots that are not public, what is in them, what could not be read."""

    paths: tuple[str, ...]
    sources: tuple[Source, ...]
    remarks: tuple[str, ...]


def merged_bundle(home: Path, environ: Mapping[str, str], base: str, more: Sequence[Source] = ()) -> bytes:
    """Return the bundle of the roots of `base`, those that `environ` names, those that were added, and `more`.

    Raises CertificateError: the roots of `base` or those that were added cannot be read.
    """
    return encode_bundle([*merged_sources(home, environ, base), *more])


def merged_sources(home: Path, environ: Mapping[str, str], base: str) -> list[Source]:
    """Return what `merged_bundle` writes, with the same arguments and errors."""
    store = TrustStore(home)
    public = read_base(base)
    own = _read_own(_own_paths(environ, store.folder), public)
    return [*public, *own.sources, *_added(store)]


def write_trust(home: Path, environ: Mapping[str, str], base: str = "both") -> Trust:
    """Write the merged bundle under `home` unless it is there already, and return what names it.

    An environment with files of its own gets a bundle of its own: two services never overwrite each other's.

    Raises CertificateError: as `merged_bundle`, or the folder cannot be written.
    """
    store = TrustStore(home)
    public = read_base(base)
    own = _read_own(_own_paths(environ, store.folder), public)
    recipe = _Recipe(base, own.paths)
    bundle, extra = _paths(store, recipe)
    has_extra = _bring_up_to_date(store, recipe, public, own)
    return _trust(bundle, extra if has_extra else None, own)


def write_server_trust(folder: Path, home: Path, environ: Mapping[str, str], more: Sequence[Source]) -> Trust:
    """Write the merged bundle with `more` into `folder`, for one server, and return what names it.

    Nothing is written under `home`. A file has its content's hash in its name: what was written before stays as it is
    for who reads it.

    Raises CertificateError: as `merged_bundle`, or the folder cannot be written.
    """
    store = TrustStore(home)
    public = read_base("both")
    own = _read_own(_own_paths(environ, store.folder), public)
    added = [*own.sources, *_added(store), *more]
    bundle = _write_named(folder, "bundle", OF_SERVER + encode_bundle([*public, *added]))
    return _trust(bundle, _write_named(folder, "extra", OF_SERVER + encode_bundle(added)), own)


def own_sources(home: Path, environ: Mapping[str, str]) -> tuple[Source, ...]:
    """Return what the variables in `environ` name, but for our bundles and for what is public anyway.

    Raises CertificateError: the public roots cannot be read.
    """
    return _read_own(_own_paths(environ, TrustStore(home).folder), read_base("both")).sources


def extra_sources(home: Path, environ: Mapping[str, str]) -> list[Source]:
    """Return the roots that are not public: the operator's own and those that were added.

    Raises CertificateError: as `merged_bundle`.
    """
    return [*own_sources(home, environ), *_added(TrustStore(home))]


def refresh_bundles(home: Path) -> int:
    """Write the bundles that `write_trust` made anew and return their number: shells and processes name them still.

    Without it, a root that was removed would stay trusted by whatever runs. The one without the operator's files is
    written also when it is not there yet: a server whose folder is read-only then, as in a container, finds it.

    Raises CertificateError: as `write_trust`.
    """
    store = TrustStore(home)
    recipes = set(_recipes(store.folder))
    if store.anchors():
        recipes.add(_Recipe("both", ()))
    for recipe in recipes:
        public = read_base(recipe.base)
        _bring_up_to_date(store, recipe, public, _read_own(_merged(recipe), public))
    return len(recipes)


def stale_bundles(home: Path) -> list[Path]:
    """Return the bundles that `refresh_bundles` would write otherwise: certifi, the system or what was added changed.

    Raises CertificateError: as `write_trust`.
    """
    store = TrustStore(home)
    stale = []
    for recipe in _recipes(store.folder):
        public = read_base(recipe.base)
        bundle = _paths(store, recipe)[0]
        if _content(bundle) != _files(store, recipe, public, _read_own(_merged(recipe), public))[bundle]:
            stale.append(bundle)
    return sorted(stale)


def own_files_with(certificates: Collection[bytes], home: Path, environ: Mapping[str, str]) -> list[str]:
    """Return the operator's files that hold one of `certificates` (DER), named by a variable or merged in a bundle.

    Raises CertificateError: as `own_sources`.
    """
    folder = TrustStore(home).folder
    paths = _own_paths(environ, folder)
    for recipe in _recipes(folder):
        paths |= _merged(recipe)
    own = _read_own(paths, ())
    return [
        path
        for path, source in zip(own.paths, own.sources, strict=True)
        if not set(certificates).isdisjoint(source.certificates)
    ]


def encode_merged(paths: Iterable[str]) -> str:
    """Return the value of `MERGED_VARIABLE` for these files; what separates them there is escaped in their names."""
    escaped = (path.replace("%", "%25").replace(os.pathsep, _ESCAPED_SEPARATOR) for path in paths)
    return os.pathsep.join(escaped)


def parse_merged(value: str) -> list[str]:
    """Return the files in a value of `MERGED_VARIABLE`."""
    escaped = filter(None, value.split(os.pathsep))
    return [path.replace(_ESCAPED_SEPARATOR, os.pathsep).replace("%25", "%") for path in escaped]


def _trust(bundle: Path, extra: Path | None, own: _Own) -> Trust:
    variables = dict.fromkeys(BUNDLE_VARIABLES, str(bundle))
    if extra is not None:
        variables |= dict.fromkeys(EXTRA_VARIABLES, str(extra))
    if own.paths:
        variables[MERGED_VARIABLE] = encode_merged(own.paths)
    return Trust(variables, bundle, extra, own.remarks)


def _write_named(folder: Path, name: str, content: bytes) -> Path:
    path = folder / f"{name}-{sha256(content).hexdigest()[:12]}.pem"
    # Also when it is there: its age says how old the roots in it are.
    write_public(path, content)
    return path


def _recipes(folder: Path) -> list[_Recipe]:
    """Return how the bundles that are there were made."""
    found = (_read_recipe(path) for path in folder.glob("bundle*.pem"))
    return [recipe for recipe in found if recipe is not None]


def _merged(recipe: _Recipe) -> dict[str, str]:
    return dict.fromkeys(recipe.merged, MERGED_VARIABLE)


def _paths(store: TrustStore, recipe: _Recipe) -> tuple[Path, Path]:
    mark = ""
    if recipe != _Recipe("both", ()):
        mark = "-" + sha256(os.fsencode(os.pathsep.join((recipe.base, *recipe.merged)))).hexdigest()[:12]
    return store.folder / f"bundle{mark}.pem", store.folder / f"extra{mark}.pem"


def _bring_up_to_date(store: TrustStore, recipe: _Recipe, public: Sequence[Source], own: _Own) -> bool:
    """Write the recipe's files unless they are right already, and return whether there are roots that add to others.

    Without a change, nothing is locked: the folder may be read-only.
    """
    files = _files(store, recipe, public, own)
    if any(_content(path) != content for path, content in files.items()):
        with locked(store.folder.parent / "locks/trust-bundles.lock"):
            # Anew: what was added may have changed since, and whoever changed it have written these files already.
            files = _files(store, recipe, public, own)
            for path, content in files.items():
                if _content(path) != content:
                    write_public(path, content)
    return bool(own.sources or store.anchors())


def _files(store: TrustStore, recipe: _Recipe, public: Sequence[Source], own: _Own) -> dict[Path, bytes]:
    """Return what the recipe's files have to hold; the second is one only if it is not empty, or there."""
    bundle, extra = _paths(store, recipe)
    added = [*own.sources, *_added(store)]
    files = {bundle: _encode(recipe, [*public, *added])}
    if added or extra.exists():
        files[extra] = encode_bundle(added)
    return files


def _encode(recipe: _Recipe, sources: Sequence[Source]) -> bytes:
    line = RECIPE + json.dumps({"base": recipe.base, "merged": recipe.merged}).encode() + b"\n"
    return line + encode_bundle(sources)


def _read_recipe(path: Path) -> _Recipe | None:
    """None for a file that we did not write."""
    line = _content(path).partition(b"\n")[0]
    try:
        recipe = json.loads(line.removeprefix(RECIPE))
        return _Recipe(recipe["base"], tuple(recipe["merged"]))
    except (ValueError, KeyError, TypeError):
        return None


def _added(store: TrustStore) -> list[Source]:
    anchors = store.anchors()
    if not anchors:
        return []
    return [Source("edge trust add", tuple(anchor.certificate.public_bytes(Encoding.DER) for anchor in anchors))]


def _read_own(paths: Mapping[str, str], public: Sequence[Source]) -> _Own:
    """Read the operator's files, each with its variable; one in which all is public adds nothing and is left out."""
    known = {der for source in public for der in source.certificates}
    found: dict[str, Source] = {}
    remarks = []
    for path, name in paths.items():
        try:
            source = read_named_source(f"the operator's {place(path)}", Path(path))
        except CertificateError as error:
            # It does not work for those who read the variable now, either; the rest of the roots still should.
            remarks.append(f"{name} is not merged: {error}")
            continue
        own = [der for der in source.certificates if der not in known]
        unusable = find_unusable(own)
        if unusable:
            remarks.append(f"{name}: {place(path)}: {len(unusable)} certificates left out: OpenSSL cannot read them")
        if len(own) > len(unusable):
            usable = tuple(der for der in source.certificates if der not in unusable)
            found[path] = Source(source.name, usable)
    return _Own(tuple(found), tuple(found.values()), tuple(remarks))


def _own_paths(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the files that the operator's variables name, each with the first variable; ours are none of theirs."""
    named = [(path, MERGED_VARIABLE) for path in parse_merged(environ.get(MERGED_VARIABLE, ""))]
    named += [(environ.get(name, ""), name) for name in (*BUNDLE_VARIABLES, *EXTRA_VARIABLES)]
    named += [(path, "SSL_CERT_DIR") for path in environ.get("SSL_CERT_DIR", "").split(os.pathsep)]
    paths: dict[str, str] = {}
    for path, name in named:
        absolute = os.path.abspath(path)
        if path and os.path.dirname(os.path.realpath(absolute)) != os.path.realpath(folder):
            paths.setdefault(absolute, name)
    return paths


def _content(path: Path) -> bytes:
    """Return what is there, whatever its size, as the sum of all roots has no bound; nothing if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
