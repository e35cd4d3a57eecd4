"""The key goes into one header and nowhere else, and over TLS only."""

import logging
import traceback

import httpx
import pytest
from pydantic import SecretStr

from midas_pipelines.fourseller.errors import BadCredentials, FourSellerError
from midas_pipelines.fourseller.http.rate_limit import FailedCall
from midas_pipelines.fourseller.http.wire import Wire
from midas_pipelines.sandbox.background import BackgroundSandbox
from midas_pipelines_tests.fourseller.channel import answering, channel, draft, use

KEY = "sk-very-secret-Zq9"
SELLER = "seller-secret-77"


@pytest.mark.parametrize(
    "url",
    [
        "http://api.4seller.com/v1",
        "http://10.0.0.5/v1",
        "http://localhost.example.com",
        "http://0.0.0.0:8004/v1",
    ],
)
def test_the_key_is_not_sent_in_clear(url: str) -> None:
    with pytest.raises(ValueError, match="use https://"):
        channel(url)


@pytest.mark.parametrize(
    "url", ["ftp://x", "api.4seller.com", "", "https://u:p@api.4seller.com", "https://a.com?k=1"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="FOURSELLER_API_URL"):
        channel(url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/v1", "http://localhost:1/v1", "http://[::1]:1/v1", "https://x.com"]
)
def test_loopback_and_tls_are_accepted(url: str) -> None:
    channel(url)


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "ключ"])
def test_a_key_no_header_may_carry_is_refused_unquoted(key: str) -> None:
    with pytest.raises(ValueError, match="the API key") as raised:
        channel(api_key=SecretStr(key))
    assert not key or key not in str(raised.value)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(401, json={"error": {"code": "no", "message": f"key {KEY} is wrong"}}),
        httpx.Response(403),
        httpx.Response(500, text=KEY),
        httpx.Response(
            422, json={"error": {"code": "bad", "message": "no", "details": {"price": "too low"}}}
        ),
        httpx.Response(422, json={"error": {"code": KEY, "message": f"{KEY} may not", "details": SELLER}}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={"sku": 4}),
        httpx.Response(418),
        httpx.ReadError("lost"),
        httpx.ConnectError("refused"),
    ],
)
def test_the_key_is_in_no_error_record_or_log(
    answer: httpx.Response | Exception, caplog: pytest.LogCaptureFixture, quick: None
) -> None:
    caplog.set_level(logging.DEBUG)
    failed: list[FailedCall] = []
    client = channel(
        api_key=SecretStr(KEY), seller_id=SELLER, transport=answering(answer), on_failed_call=failed.append
    )
    with pytest.raises(FourSellerError) as raised:
        use(client, lambda c: c.update_product("P1", draft()))
    said = "".join(traceback.format_exception(raised.value)) + caplog.text + repr(failed) + repr(vars(client))
    assert KEY not in said
    assert SELLER not in said
    assert failed


@pytest.mark.parametrize("status", [401, 403])
def test_bad_credentials_end_at_once_with_one_sentence(status: int) -> None:
    client = channel(transport=answering(httpx.Response(status)))
    with pytest.raises(BadCredentials, match="check FOURSELLER_API_KEY and FOURSELLER_SELLER_ID"):
        use(client, lambda c: c.listing())
    assert client.requests == 1


def test_the_sandbox_refuses_a_wrong_key_or_seller(sandbox: BackgroundSandbox) -> None:
    for wrong in ({"api_key": SecretStr("nope")}, {"seller_id": "nope"}):
        with pytest.raises(BadCredentials):
            use(channel(sandbox.url, **wrong), lambda c: c.product("P1"))


def test_tls_is_verified() -> None:
    wire = Wire("https://x.com", SecretStr(KEY), SELLER)
    context = wire._connections.tls
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"
    assert KEY not in repr(wire)


def test_an_idempotency_key_cannot_smuggle_a_header() -> None:
    with pytest.raises(ValueError, match="the idempotency key"):
        use(
            channel(transport=answering(httpx.Response(201, json={"id": "P"}))),
            lambda c: c.create_product(draft(), idempotency_key="a\r\nX-Evil: 1"),
        )
