from pathlib import Path

from edge.config import build_settings
from edge.config_app import ApplicationSettings
from edge.config_sites import AppPlan, RoutePlan, SitePlan, UpstreamPlan
from edge.config_tls import CertificateFiles
from edge.options_sites import parse_upstream


def test_options_alone_are_one_site_with_one_route_to_the_application() -> None:
    settings = build_settings({"app": "shop:app", "workers": 3, "root_path": "/shop"})
    plan = AppPlan(ApplicationSettings("shop:app", root_path="/shop"), settings.pool)
    assert settings.sites == (SitePlan((RoutePlan(plan, "/"),), ()),)
    assert plan.pool.workers == 3


def test_certificates_of_the_options_are_those_of_the_one_site() -> None:
    files = CertificateFiles(Path("a.pem"), Path("a.key"))
    (site,) = build_settings({"app": "shop:app", "cert": ["a.pem"], "key": "a.key"}).sites
    assert site.certificates == (files,)
    (site,) = build_settings({"app": "shop:app", "acme": ["a.example,b.example"]}).sites
    assert site.acme == (("a.example", "b.example"),)


def test_upstream_needs_nothing_but_its_address() -> None:
    plan = UpstreamPlan((parse_upstream("http://127.0.0.1:8000"),))
    assert (plan.balance, plan.retry, plan.send_host, plan.health_path) == ("least-busy", "idempotent", "client", "")
    # uvicorn and Node close an unused connection after 5 s: ours must be gone before.
    assert plan.keepalive_timeout < 5
