"""A receiver trusts what was sent with its secret, unchanged and just now, and nothing else."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgqueue import InvalidOptionError, InvalidSignatureError
from pgqueue.delivery.signing import read_secrets, sign
from pgqueue.webhooks import verify

pytestmark = pytest.mark.contract("P8.6", "P6.14")

# The vector of the specification's own libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, AT = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
HEADERS = {"webhook-id": ID, "webhook-timestamp": str(AT), "webhook-signature": SIGNATURE}


def test_it_is_the_signature_of_standard_webhooks() -> None:
    assert sign(read_secrets("test", SECRET), ID, AT, BODY) == HEADERS
    assert verify(BODY, HEADERS, SECRET, now=AT) == {"test": 2432232314}
    assert verify(BODY.decode(), {each.title(): HEADERS[each] for each in HEADERS}, SECRET, now=AT + 299)


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-id": "msg_other"},
        {"webhook-timestamp": str(AT + 1)},
        {"webhook-timestamp": "soon"},
        {"webhook-timestamp": "-1"},
        {"webhook-timestamp": "\u0663"},
        {"webhook-timestamp": "9" * 400},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v2," + SIGNATURE[3:]},
        {"webhook-signature": SIGNATURE[3:]},
        {"webhook-signature": "v1,\u2603 " * 50},
        {"webhook-signature": None},
        {"webhook-id": None},
    ],
    ids=str,
)
def test_another_message_is_refused(changed: dict[str, str | None]) -> None:
    headers: dict[str, Any] = {
        name: value for name, value in (HEADERS | changed).items() if value is not None
    }

    with pytest.raises(InvalidSignatureError):
        verify(BODY, headers, SECRET, now=AT)


@pytest.mark.parametrize("now", [AT + 301, AT - 301, float("inf"), float("nan")])
def test_an_old_message_is_refused(now: float) -> None:
    with pytest.raises(InvalidSignatureError, match="replay"):
        verify(BODY, HEADERS, SECRET, now=now)


@given(body=st.binary(max_size=100), other=st.binary(max_size=100), key=st.binary(min_size=16, max_size=64))
def test_whatever_is_signed_is_verified_and_whatever_else_is_not(
    body: bytes, other: bytes, key: bytes
) -> None:
    secret = f"whsec_{b64encode(key).decode()}"
    value = {"data": body.hex()}
    sent = json.dumps(value).encode()
    headers = sign(read_secrets("test", secret), "id", int(time.time()), sent)

    assert verify(sent, headers, ["another secret, an old one", secret]) == value
    if other != sent:
        with pytest.raises(InvalidSignatureError):
            verify(other, headers, secret)


@pytest.mark.parametrize(
    "secret", ["", "short", "whsec_", "whsec_***", None, 7, [], [""], [b"x" * 20], b"x" * 20]
)
def test_what_is_no_secret_is_refused_and_not_shown(secret: Any) -> None:
    with pytest.raises(InvalidOptionError) as raised:
        verify(BODY, HEADERS, secret, now=AT)

    assert not secret or str(secret) not in str(raised.value)
