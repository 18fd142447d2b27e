"""The settings: one frozen dataclass a part. Each field carries its option, so that flags, `EDGE_*`
variables, `edge.run` and the help all come from here.
"""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.config_acme import AcmeSettings, refuse_acme_contradictions
from edge.config_answers import AnswerSettings
from edge.config_app import ApplicationSettings
from edge.config_foreign import ForeignSettings, advice_for
from edge.config_forward import ForwardSettings, forward_settings
from edge.config_limits import LimitSettings, TimeoutSettings
from edge.config_listen import ListenSettings, all_binds
from edge.config_logs import LogSettings
from edge.config_pool import PoolSettings, RunSettings
from edge.config_reload import ReloadSettings
from edge.config_site import SiteSettings, refuse_site_contradictions
from edge.config_sites import AppPlan, RoutePlan, SiteParts, SitePlan, static_routes
from edge.config_static import StaticSettings, refuse_static_contradictions
from edge.config_tls import CertificateFiles, TlsSettings
from edge.config_websocket import WebSocketSettings, without_deflate
from edge.errors import ConfigError
from edge.options import Option, options_of


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Everything that `edge serve` can be told."""

    application: ApplicationSettings
    listen: ListenSettings = field(default_factory=ListenSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    acme: AcmeSettings = field(default_factory=AcmeSettings)
    site: SiteSettings = field(default_factory=SiteSettings)
    forward: ForwardSettings = field(default_factory=ForwardSettings)
    answers: AnswerSettings = field(default_factory=AnswerSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    timeouts: TimeoutSettings = field(default_factory=TimeoutSettings)
    websocket: WebSocketSettings = field(default_factory=WebSocketSettings)
    static: StaticSettings = field(default_factory=StaticSettings)
    pool: PoolSettings = field(default_factory=PoolSettings)
    reload: ReloadSettings = field(default_factory=ReloadSettings)
    run: RunSettings = field(default_factory=RunSettings)
    foreign: ForeignSettings = field(default_factory=ForeignSettings)
    logs: LogSettings = field(default_factory=LogSettings)
    # What env files say, for workers; see edge.envfile.
    variables: Mapping[str, str] = field(default_factory=dict)
    # What is served of it, and where; options alone make one site with one route.
    sites: tuple[SitePlan, ...] = ()

    @property
    def applications(self) -> dict[str, AppPlan]:
        """The applications that are served, by the key of their pool: where they are, empty if that is everywhere.

        Routes that lead to the same application, started in the same way, share it.
        """
        found: dict[str, AppPlan] = {}
        for site in self.sites:
            for route in site.routes:
                if isinstance(route.target, AppPlan) and route.target not in found.values():
                    found[(site.names or ("*",))[0] + route.prefix] = route.target
        return dict.fromkeys(("",), *found.values()) if len(found) == 1 else found


# The parts with their titles, in the order of the help.
SECTIONS: tuple[tuple[str, type[Any]], ...] = (
    ("Application", ApplicationSettings),
    ("Listening", ListenSettings),
    ("TLS", TlsSettings),
    ("Certificates from an authority", AcmeSettings),
    ("Site", SiteSettings),
    ("Forwarding", ForwardSettings),
    ("Answers", AnswerSettings),
    ("Limits", LimitSettings),
    ("Timeouts", TimeoutSettings),
    ("WebSocket", WebSocketSettings),
    ("Static files", StaticSettings),
    ("Pool", PoolSettings),
    ("Development", ReloadSettings),
    ("Process", RunSettings),
    ("Logs", LogSettings),
    ("Accepted for others", ForeignSettings),
)


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was given, and how the user spelled what it was given to, up to the value."""

    value: object
    origin: str

    @property
    def name(self) -> str:
        """The spelling without what joins it to the value."""
        return self.origin.rstrip(" =")


def section_options(part: type[Any]) -> Iterator[Option]:
    """Yield the options of one part of the settings, in the order of its fields."""
    for item in dataclasses.fields(part):
        yield from options_of(item)


def all_options() -> Iterator[Option]:
    """Yield every option, in the order of the help."""
    for _, part in SECTIONS:
        yield from section_options(part)


def build_settings(values: Mapping[str, object], environ: Mapping[str, str] | None = None) -> ServeSettings:
    """Return the settings from options by name (`app`, `bind`, `max_body`, or an alias such as `keep_alive`).

    A value is text or a Python value; None is the default; a `Given` says besides how it was spelled.
    Options that are not in `values` are looked for in `environ` as `EDGE_*`.

    Raises ConfigError on an unknown name and on whatever is wrong with a value.
    """
    given = _from_environment(environ or {}) | _by_key(values)
    parsed = {option.key: _parse(option, given[option.key]) for option in all_options() if option.key in given}
    if "app" not in parsed:
        raise ConfigError("no application: give MODULE:ATTR, such as app:app, or set EDGE_APP")
    _refuse_contradictions(given, parsed)
    acme = _part(AcmeSettings, parsed)
    site = _part(SiteSettings, parsed)
    spelled = {key: item.name for key, item in given.items()}
    refuse_acme_contradictions(spelled, parsed, acme)
    refuse_site_contradictions(spelled, parsed, site)
    refuse_static_contradictions(spelled, parsed)
    static = _part(StaticSettings, parsed)
    application = _part(ApplicationSettings, parsed)
    pool = _part(PoolSettings, {"workers": 1, **parsed} if parsed.get("reload") else parsed)
    certificates = _pairs(parsed)
    return ServeSettings(
        application=application,
        listen=_part(ListenSettings, {**parsed, "bind": all_binds(parsed)}),
        tls=dataclasses.replace(_part(TlsSettings, parsed), certificates=certificates),
        acme=acme,
        site=site,
        forward=forward_settings(parsed),
        answers=_part(AnswerSettings, parsed),
        limits=_part(LimitSettings, parsed),
        timeouts=_part(TimeoutSettings, parsed),
        websocket=_part(WebSocketSettings, without_deflate(parsed)),
        static=static,
        pool=pool,
        reload=_part(ReloadSettings, parsed),
        run=_part(RunSettings, parsed),
        foreign=_part(ForeignSettings, parsed),
        logs=_part(LogSettings, parsed),
        sites=(
            SitePlan(
                (RoutePlan(AppPlan(application, pool)), *static_routes(static)),
                (),
                certificates,
                acme.certificates,
                SiteParts(site),
            ),
        ),
    )


def env_files(values: Mapping[str, object], environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the files of variables that are named there, which the other options may be in.

    Raises ConfigError as `build_settings` does.
    """
    found: tuple[Path, ...] = _alone("env_file", values, environ) or ()
    return found


def start_folder(values: Mapping[str, object], environ: Mapping[str, str]) -> str:
    """Return the directory that is named there to go to before anything else; empty: none.

    Raises ConfigError as `build_settings` does.
    """
    return str(_alone("chdir", values, environ) or "")


def _alone(key: str, values: Mapping[str, object], environ: Mapping[str, str]) -> Any:
    """Return the value of one option that is needed before the others are; None if it is not given."""
    given = _from_environment(environ) | _by_key(values)
    option = next(option for option in all_options() if option.key == key)
    return _parse(option, given[key]) if key in given else None


def nearest(word: str, words: list[str]) -> str:
    """Return "; did you mean ..." with the likeliest of `words`, or nothing where none is near."""
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.7)
    return f"; did you mean {near[0]}" if near else ""


def _by_key(values: Mapping[str, object]) -> dict[str, Given]:
    keys = {key: option.key for option in all_options() for key in option.keys}
    found: dict[str, Given] = {}
    for name, value in values.items():
        if name not in keys:
            raise ConfigError(f"{name}: {advice_for(name) or f'unknown option{nearest(name, list(keys))}'}")
        if value is None:
            continue
        if keys[name] in found:
            raise ConfigError(f"{name}: given under two names; leave out one")
        found[keys[name]] = value if isinstance(value, Given) else Given(value, f"{name}=")
    return found


def _from_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    found: dict[str, Given] = {}
    for option in all_options():
        for variable in option.variables:
            if environ.get(variable) and option.key not in found:
                text = environ[variable]
                value = option.kind.split(text) if option.kind.repeat else text
                found[option.key] = Given(value, f"{variable}=")
    return found


def _parse(option: Option, given: Given) -> Any:
    try:
        return option.kind.parse(given.value)
    except ConfigError as error:
        raise ConfigError(f"{given.origin}{error}") from error


def _part(part: type[Any], parsed: Mapping[str, Any]) -> Any:
    """Build one part from the parsed values of its fields' own options; what was not given keeps its default."""
    own = {item.name: options_of(item)[0].key for item in dataclasses.fields(part)}
    return part(**{name: parsed[key] for name, key in own.items() if key in parsed})


def _pairs(parsed: Mapping[str, Any]) -> tuple[CertificateFiles, ...]:
    certs, keys = parsed.get("cert", ()), parsed.get("key", ())
    return tuple(CertificateFiles(cert, keys[i] if i < len(keys) else None) for i, cert in enumerate(certs))


def _refuse_contradictions(given: Mapping[str, Given], parsed: Mapping[str, Any]) -> None:
    certs, keys = parsed.get("cert", ()), parsed.get("key", ())
    if len(keys) > len(certs):
        name = given["key"].name
        raise ConfigError(f"{name}: {len(keys)} given for {len(certs)} --cert; give each its --cert")
    if certs and parsed.get("dev"):
        raise ConfigError(f"{given['dev'].name}: {given['cert'].name} is given too; use one of them")
    for key in ("dev_name", "dev_authority"):
        if key in given and not parsed.get("dev"):
            raise ConfigError(f"{given[key].name}: without --dev it is for nothing; add --dev")
    for key in ("host", "port"):
        for other, advice in (("bind", "put host and port into it"), ("uds", "leave out one"), ("fd", "leave out one")):
            if key in given and other in given:
                raise ConfigError(f"{given[key].name}: {given[other].name} is given too; {advice}")
    binds = [str(bind) for bind in (*all_binds(parsed), *parsed.get("http_bind", ())) if not str(bind).endswith(":0")]
    for bind in binds:
        if binds.count(bind) > 1:
            raise ConfigError(f"cannot listen on {bind}: given twice; leave out one")
