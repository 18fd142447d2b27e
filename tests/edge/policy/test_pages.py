"""What a client reads when the edge answers by itself."""

import pytest

from edge.policy.pages import error_page


@pytest.mark.parametrize(
    ("status", "page"),
    [
        (400, b"400 Bad Request\nrequest id: id-1\n"),
        (413, b"413 Content Too Large\nrequest id: id-1\n"),
        (503, b"503 Service Unavailable\nrequest id: id-1\n"),
        (599, b"599 Unknown\nrequest id: id-1\n"),
    ],
)
def test_page_is_the_status_its_phrase_and_the_id_that_leads_to_the_log(status: int, page: bytes) -> None:
    assert error_page(status, b"id-1") == page
