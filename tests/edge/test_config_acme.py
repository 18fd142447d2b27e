"""The options for certificates that are ordered: what makes sense together."""

from __future__ import annotations

import pytest

from edge.config import build_settings
from edge.config_acme import LETS_ENCRYPT, AcmeSettings
from edge.errors import ConfigError
from edge_certs.challenges import KINDS
from edge_certs.csr import DEFAULT_KEY_TYPE, KEY_TYPES
from edge_certs.ledger import PRODUCTION

APP: dict[str, object] = {"app": "shop:app"}


def acme(**values: object) -> AcmeSettings:
    return build_settings({**APP, **values}).acme


def test_nothing_is_ordered_by_default() -> None:
    assert build_settings(APP).acme == AcmeSettings()
    assert AcmeSettings().certificates == ()


def test_name_alone_is_enough() -> None:
    settings = acme(acme="shop.test")
    assert settings.directory == LETS_ENCRYPT == PRODUCTION
    assert settings.kinds == ("http-01", "tls-alpn-01")
    assert settings.key_type == DEFAULT_KEY_TYPE


def test_words_that_options_take_are_those_of_the_client() -> None:
    for kind in KINDS:
        assert acme(acme="shop.test", acme_challenge=kind, acme_dns_hook="/bin/hook").challenges == (kind,)
    for key_type in KEY_TYPES:
        assert acme(acme="shop.test", acme_key_type=key_type).key_type == key_type


def test_hook_adds_its_challenge() -> None:
    assert acme(acme="*.shop.test", acme_dns_hook="/bin/hook").kinds == ("dns-01", "http-01", "tls-alpn-01")


def test_names_share_a_certificate_by_a_comma_in_a_variable_too() -> None:
    settings = build_settings(APP, {"EDGE_ACME": "shop.test,www.shop.test api.shop.test"}).acme
    assert settings.certificates == (("shop.test", "www.shop.test"), ("api.shop.test",))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"acme_email": "a@shop.test"}, "acme_email: it is for nothing without --acme; add --acme NAME"),
        ({"acme": "shop.test", "dev": True}, "acme: dev is given too; use one of them"),
        (
            {"acme": "shop.test", "acme_eab_kid": "k"},
            "acme_eab_kid: there is no --acme-eab-key; give both, as the authority did",
        ),
        (
            {"acme": "shop.test", "acme_eab_key": "a2V5"},
            "acme_eab_key: there is no --acme-eab-kid; give both, as the authority did",
        ),
        (
            {"acme": "shop.test", "acme_challenge": "dns-01"},
            "acme_challenge: dns-01 needs a command; add --acme-dns-hook",
        ),
        (
            {"acme": ["shop.test", "www.shop.test,*.shop.test"]},
            "acme: a wildcard such as *.shop.test is proven in the DNS only; "
            "add --acme-dns-hook, or --acme-challenge dns-persist-01",
        ),
    ],
)
def test_contradiction_is_refused(values: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_settings({**APP, **values})
    assert str(caught.value) == expected


def test_key_of_the_customer_is_in_no_repr() -> None:
    assert "a2V5" not in repr(acme(acme="shop.test", acme_eab_kid="kid-1", acme_eab_key="a2V5"))
