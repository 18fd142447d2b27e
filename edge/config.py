"""The settings: one frozen dataclass a part. Each field carries its option, so that flags, `EDGE_*`
variables, `edge.run` and the help all come from here.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from edge.config_acme import AcmeSettings, refuse_acme_contradictions
from edge.config_answers import AnswerSettings
from edge.config_app import ApplicationSettings, with_paste
from edge.config_buffer import BufferSettings, CompressSettings, SpoolSettings, refuse_unusable_spool
from edge.config_foreign import ForeignSettings, advice_for
from edge.config_forward import ForwardSettings, forward_settings, refuse_forward_contradictions
from edge.config_limits import LimitSettings, TimeoutSettings
from edge.config_listen import ListenSettings, all_binds
from edge.config_logs import LogSettings
from edge.config_plans import Base, plan_sites
from edge.config_pool import PoolSettings, RunSettings
from edge.config_reload import ReloadSettings, with_extra_files
from edge.config_site import SiteSettings, refuse_site_contradictions
from edge.config_sites import SITE_PARTS, AppPlan, SiteParts, SitePlan, static_routes
from edge.config_static import StaticSettings, refuse_static_contradictions
from edge.config_tls import TlsSettings, pair_files
from edge.config_toml import FileText, SiteText
from edge.config_websocket import WebSocketSettings, without_deflate
from edge.errors import ConfigError
from edge.given import Given, options_by_key, own_values, read_given
from edge.options import Option, file, nearest, options_of, setting

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FileSettings:
    """Which file says what flags and environment do not; an empty `path` is none."""

    path: str = setting(
        "", file(), "--config", "-c", shown="edge.toml, if there is one", help="file with settings and sites"
    )


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Everything that `edge serve` can be told.

    `application` is the first of those that `sites` lead to, with an empty target if they lead to none.
    """

    application: ApplicationSettings
    file: FileSettings = field(default_factory=FileSettings)
    listen: ListenSettings = field(default_factory=ListenSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    acme: AcmeSettings = field(default_factory=AcmeSettings)
    site: SiteSettings = field(default_factory=SiteSettings)
    forward: ForwardSettings = field(default_factory=ForwardSettings)
    answers: AnswerSettings = field(default_factory=AnswerSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    timeouts: TimeoutSettings = field(default_factory=TimeoutSettings)
    buffer: BufferSettings = field(default_factory=BufferSettings)
    spool: SpoolSettings = field(default_factory=SpoolSettings)
    compress: CompressSettings = field(default_factory=CompressSettings)
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
        """The applications that are served, by the key of their pool: where they are, such as `*/` for everywhere.

        Routes that lead to the same application, started in the same way, share it.
        """
        found: dict[str, AppPlan] = {}
        for site in self.sites:
            for route in site.routes:
                if isinstance(route.target, AppPlan) and route.target not in found.values():
                    found[(site.names or ("*",))[0] + route.prefix] = route.target
        return found


# The parts with their titles, in the order of the help.
SECTIONS: tuple[tuple[str, type[Any]], ...] = (
    ("Application", ApplicationSettings),
    ("Configuration", FileSettings),
    ("Listening", ListenSettings),
    ("TLS", TlsSettings),
    ("Certificates from an authority", AcmeSettings),
    ("Site", SiteSettings),
    ("Forwarding", ForwardSettings),
    ("Answers", AnswerSettings),
    ("Limits", LimitSettings),
    ("Timeouts", TimeoutSettings),
    ("Buffering", BufferSettings),
    ("Spool", SpoolSettings),
    ("Compression", CompressSettings),
    ("WebSocket", WebSocketSettings),
    ("Static files", StaticSettings),
    ("Pool", PoolSettings),
    ("Development", ReloadSettings),
    ("Process", RunSettings),
    ("Logs", LogSettings),
    ("Accepted for others", ForeignSettings),
)


# What is needed before a file is read cannot stand in it.
_BEFORE_FILES = ("config", "chdir")

# The tables of a file: for each its keys. What is only accepted from other servers' commands is in none.
TABLES: Mapping[str, Mapping[str, Option]] = {
    # What each site may have for itself is told for all of them in a table of another name than theirs.
    {part: own for own, part in SITE_PARTS.items()}.get(part, name): {
        key: option for key, option in options_by_key(part).items() if option.key not in _BEFORE_FILES
    }
    for name, part in get_type_hints(ServeSettings).items()
    if part in dict(SECTIONS).values() and part not in (FileSettings, ForeignSettings)
}

NO_FILE = FileText()


def section_options(part: type[Any]) -> Iterator[Option]:
    """Yield the options of one part of the settings, in the order of its fields."""
    for item in dataclasses.fields(part):
        yield from options_of(item)


def all_options() -> Iterator[Option]:
    """Yield every option, in the order of the help."""
    for _, part in SECTIONS:
        yield from section_options(part)


def build_settings(
    values: Mapping[str, object], environ: Mapping[str, str] | None = None, text: FileText = NO_FILE
) -> ServeSettings:
    """Return the settings from options by name (`app`, `bind`, `max_body`, or an alias such as `keep_alive`).

    A value is text or a Python value; None is the default; a `Given` says besides how it was spelled. Options that are
    not in `values` are looked for in `environ` as `EDGE_*`, then in `text`.

    Raises ConfigError on an unknown name, and with a line for each value that is wrong.
    """
    given = find_given(values, environ or {}, text)
    problems = list(text.problems)
    names = {key: item.name for key, item in given.items()}
    parsed = with_paste(names, read_given(all_options(), given, problems))
    static = static_routes(StaticSettings(**own_values(StaticSettings, parsed)))
    base = Base(own_values(ApplicationSettings, parsed), _pool(parsed), _parts(parsed), static)
    sites = plan_sites(text.sites, base, problems)
    if problems:
        raise ConfigError("\n".join(sorted(problems, key=_line_of)))
    if not base.routes and not sites:
        raise ConfigError("no application: give MODULE:ATTR, such as app:app, or set EDGE_APP")
    _refuse_contradictions(given, parsed)
    refuse_static_contradictions(names, parsed)
    refuse_forward_contradictions(names, parsed)
    _refuse_for_sites(given, parsed, text.sites)
    return _put_together(given, parsed, text.sites, base, sites)


def _line_of(problem: str) -> int:
    """Return the line of a file that a message begins with, 0 for one about a flag or a variable."""
    place = re.match(r"[^ ]+?:(\d+): ", problem)
    return int(place[1]) if place else 0


def find_given(values: Mapping[str, object], environ: Mapping[str, str], text: FileText = NO_FILE) -> dict[str, Given]:
    """Return what options were given, by key, each from the strongest that gives it.

    Raises ConfigError on an unknown name.
    """
    stronger = _from_environment(environ) | _by_key(values)
    found = {**text.given, **stronger}
    # A chain from one place and a key from another are no pair: a field is taken from one of them as a whole.
    for _, part in SECTIONS:
        for item in dataclasses.fields(part):
            keys = {option.key for option in options_of(item)}
            if keys & stronger.keys():
                found = {key: value for key, value in found.items() if key not in keys - stronger.keys()}
    return found


def env_files(values: Mapping[str, object], environ: Mapping[str, str], text: FileText = NO_FILE) -> tuple[Path, ...]:
    """Return the files of variables that are named there, which the other options may be in.

    Raises ConfigError as `build_settings` does.
    """
    found: tuple[Path, ...] = _alone("env_file", find_given(values, environ, text)) or ()
    return found


def config_file(values: Mapping[str, object], environ: Mapping[str, str]) -> str:
    """Return the file that is named there and says the rest; empty: none.

    Raises ConfigError as `build_settings` does.
    """
    return str(_alone("config", find_given(values, environ)) or "")


def start_folder(values: Mapping[str, object], environ: Mapping[str, str]) -> str:
    """Return the directory that is named there to go to before anything else; empty: none.

    Raises ConfigError as `build_settings` does.
    """
    return str(_alone("chdir", find_given(values, environ)) or "")


def _alone(key: str, given: Mapping[str, Given]) -> Any:
    """Return the value of one option that is needed before the others are; None if it is not given."""
    problems: list[str] = []
    parsed = read_given([option for option in all_options() if option.key == key], given, problems)
    if problems:
        raise ConfigError("\n".join(problems))
    return parsed.get(key)


def _pool(parsed: Mapping[str, Any]) -> PoolSettings:
    default = {"workers": 1} if parsed.get("reload") else {}
    return PoolSettings(**{**default, **own_values(PoolSettings, parsed)})


def _parts(parsed: Mapping[str, Any]) -> SiteParts:
    return SiteParts(**{name: part(**own_values(part, parsed)) for name, part in SITE_PARTS.items()})


def _put_together(
    given: Mapping[str, Given],
    parsed: Mapping[str, Any],
    texts: Sequence[SiteText],
    base: Base,
    sites: tuple[SitePlan, ...],
) -> ServeSettings:
    def part(kind: type[T], **others: Any) -> T:
        return kind(**{**own_values(kind, values), **others})

    values = with_extra_files(without_deflate(parsed))
    acme = part(AcmeSettings)
    sites = sites or (SitePlan(base.routes, (), pair_files(parsed), acme.certificates, base.parts),)
    groups = (*acme.certificates, *(group for site in sites for group in site.acme))
    acme = dataclasses.replace(acme, certificates=tuple(dict.fromkeys(groups)))
    pairs = (*pair_files(parsed), *(files for site in sites for files in site.certificates))
    certificates = tuple(dict.fromkeys(pairs))
    _refuse_particular(given, {**parsed, "cert": certificates, "acme": groups}, acme, texts, sites)
    applications = [route.target for site in sites for route in site.routes if isinstance(route.target, AppPlan)]
    spool, buffer = part(SpoolSettings), part(BufferSettings)
    if buffer.holds_all(item.application.spoken for item in applications):
        refuse_unusable_spool(spool)
    return ServeSettings(
        application=applications[0].application if applications else ApplicationSettings(""),
        file=part(FileSettings),
        listen=part(ListenSettings, binds=all_binds(parsed)),
        tls=part(TlsSettings, certificates=certificates),
        acme=acme,
        site=base.parts.policy,
        forward=forward_settings(parsed),
        answers=part(AnswerSettings),
        limits=part(LimitSettings),
        timeouts=part(TimeoutSettings),
        buffer=buffer,
        spool=spool,
        compress=base.parts.compress,
        websocket=part(WebSocketSettings),
        static=part(StaticSettings),
        pool=base.pool,
        reload=part(ReloadSettings),
        run=part(RunSettings),
        foreign=part(ForeignSettings),
        logs=part(LogSettings),
        sites=sites,
    )


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
                found[option.key] = Given(value, f"{variable}=", "environment")
    return found


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


def _refuse_for_sites(given: Mapping[str, Given], parsed: Mapping[str, Any], texts: Sequence[SiteText]) -> None:
    for key in ("app", "static"):
        if texts and key in given and all(text.routes for text in texts):
            spelled = f"{given[key].origin}{given[key].value!r}"
            advice = "leave it out, or the file with -c /dev/null"
            raise ConfigError(f"{spelled}: every site of the file has routes, it would serve nothing; {advice}")
    if texts and "server_name" in given:
        raise ConfigError(f"{given['server_name'].name}: the file has sites, whose hosts are served; leave it out")
    for text in texts:
        for key in ("cert", "acme"):
            if parsed.get("dev") and key in text.given:
                raise ConfigError(f"{given['dev'].name}: {text.given[key].name} is given too; use one of them")


def _refuse_particular(
    given: Mapping[str, Given],
    parsed: Mapping[str, Any],
    acme: AcmeSettings,
    texts: Sequence[SiteText],
    sites: Sequence[SitePlan],
) -> None:
    """What is refused of certificates that are ordered, and of what is particular to each site."""
    spelled = {key: item.name for key, item in given.items()}
    own = [{key: item.name for key, item in text.given.items()} for text in texts]
    ordered = next((names["acme"] for names in own if "acme" in names), "")
    refuse_acme_contradictions({"acme": ordered} | spelled if ordered else spelled, parsed, acme)
    # Whoever has a certificate, its listener is for all sites.
    spelled = {key: name for names in own for key, name in names.items() if key in ("cert", "acme")} | spelled
    for names, site in zip(own or [{}], sites, strict=True):
        policy = site.settings.policy
        served = dataclasses.replace(policy, server_names=site.names + policy.server_names)
        refuse_site_contradictions(spelled | names, parsed, served)
