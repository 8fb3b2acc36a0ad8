"""What the founding document's samples call. Each call is noted in a file; what fails is said by the argument."""

# mypy: ignore-errors
from __future__ import annotations

import json
import os
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

NOTES = Path(os.environ["SERVICES_NOTES"])


class PaymentDeclinedError(Exception):
    pass


class TransientError(Exception):
    pass


class WebhookFailedError(Exception):
    pass


class OrderStatus(Enum):
    NEW = "new"
    PROCESSING = "processing"
    COMPLETED = "completed"


def note(key, value=None):
    with (NOTES / key).open("a") as file:
        print(json.dumps(value), file=file)
    return len((NOTES / key).read_text().splitlines())


def charge(payment_id):
    count = note(f"charge {payment_id}")
    if payment_id == "declined":
        raise PaymentDeclinedError("no money")
    if payment_id == "transient" and count < 3:
        raise TransientError("try later")
    if payment_id == "connection" and count < 2:
        raise ConnectionError("cut off")
    return SimpleNamespace(id=f"tx-{payment_id}")


class Orders:
    def get(self, order_id):
        done = NOTES / f"order {order_id}"
        return SimpleNamespace(status=OrderStatus.COMPLETED if done.exists() else OrderStatus.NEW, total=70)

    def update(self, order_id, status):
        note(f"order {order_id}", status.value)


def send_webhook(payload):
    note("webhook", payload)
    return SimpleNamespace(success=payload.get("works", False), error="refused")


class Logger:
    def info(self, message, **fields):
        note("log", [message, fields])

    error = info


logger = Logger()
email_client = SimpleNamespace(send=lambda to, subject, body: note("email", [to, subject, body]))
payment_gateway = SimpleNamespace(charge=charge)
payment_provider = SimpleNamespace(
    charge=lambda amount, idempotency_key: note("provider", [amount, idempotency_key])
)
orders_repo = Orders()
dead_letter_queue = SimpleNamespace(send=lambda letter: note("dead letters", letter))
