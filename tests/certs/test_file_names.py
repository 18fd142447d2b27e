from __future__ import annotations

import pytest

from edge_certs.errors import CertificateError
from edge_certs.file_names import authority_name, file_name, from_file_name


def test_name_is_a_file_and_comes_back() -> None:
    for name in ("shop.example", "*.shop.example", "192.0.2.1", "2001:db8::1"):
        assert from_file_name(file_name(name)) == name
        assert not set(file_name(name)) & set("*:/")


def test_authorities_with_similar_urls_have_folders_of_their_own() -> None:
    urls = ["https://ca.example/a/b", "https://ca.example/a_b", "https://ca.example/a%2Fb", "https://ca.example:1/a/b"]
    names = {authority_name(url) for url in urls}
    assert len(names) == len(urls)
    assert not any("/" in name for name in names)


@pytest.mark.parametrize("url", ["http://ca.example/dir", "https://", "https://../x", "ca.example", ""])
def test_authority_that_is_no_https_url_is_refused(url: str) -> None:
    with pytest.raises(CertificateError, match="not an https URL; name the URL of its directory"):
        authority_name(url)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\0b", ".hidden"])
def test_name_that_leads_out_of_the_folder_is_refused(name: str) -> None:
    with pytest.raises(CertificateError, match="not a host name or an IP address"):
        file_name(name)
