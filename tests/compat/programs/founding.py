"""The samples of the founding document that use Celery, as they stand there: quick start, patterns 2, 3, 5, 7.

What they call (a payment provider, a mailer) is in `services`, which notes each call.
"""

# mypy: ignore-errors
from __future__ import annotations

from datetime import datetime

from services import (
    OrderStatus,
    PaymentDeclinedError,
    TransientError,
    WebhookFailedError,
    dead_letter_queue,
    email_client,
    logger,
    orders_repo,
    payment_gateway,
    payment_provider,
    send_webhook,
)
from services import note as noted

# fmt: off

# Quick start

from celery import Celery

app = Celery("tasks", broker="redis://localhost:6379")


@app.task
def send_email(to: str, subject: str, body: str) -> None:
    # This runs in a background worker
    email_client.send(to, subject, body)


# Pattern 2: Celery Task Configuration

app.conf.update(
    task_time_limit=3600,  # Hard limit: 1 hour
    task_soft_time_limit=3000,  # Soft limit: 50 minutes
    task_acks_late=True,  # Acknowledge after completion
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,  # Don't prefetch too many tasks
)


@app.task(
    bind=True,
    max_retries=3,
    default_retry_delay=60,
    autoretry_for=(ConnectionError, TimeoutError),
)
def process_payment(self, payment_id: str) -> dict:
    """Process payment with automatic retry on transient errors."""
    try:
        result = payment_gateway.charge(payment_id)
        return {"status": "success", "transaction_id": result.id}
    except PaymentDeclinedError as e:
        # Don't retry permanent failures
        return {"status": "declined", "reason": str(e)}
    except TransientError as e:
        # Retry with exponential backoff
        raise self.retry(exc=e, countdown=2 ** self.request.retries * 60)


# Pattern 3: Make Tasks Idempotent

@app.task(bind=True)
def process_order(self, order_id: str) -> None:
    """Process order idempotently."""
    order = orders_repo.get(order_id)

    # Already processed? Return early
    if order.status == OrderStatus.COMPLETED:
        logger.info("Order already processed", order_id=order_id)
        return

    # Already in progress? Check if we should continue
    if order.status == OrderStatus.PROCESSING:
        # Use idempotency key to avoid double-charging
        pass

    # Process with idempotency key
    result = payment_provider.charge(
        amount=order.total,
        idempotency_key=f"order-{order_id}",  # Critical!
    )

    orders_repo.update(order_id, status=OrderStatus.COMPLETED)


# Pattern 5: Dead Letter Queue

@app.task(bind=True, max_retries=3)
def process_webhook(self, webhook_id: str, payload: dict) -> None:
    """Process webhook with DLQ for failures."""
    try:
        result = send_webhook(payload)
        if not result.success:
            raise WebhookFailedError(result.error)
    except Exception as e:
        if self.request.retries >= self.max_retries:
            # Move to dead letter queue for manual inspection
            dead_letter_queue.send({
                "task": "process_webhook",
                "webhook_id": webhook_id,
                "payload": payload,
                "error": str(e),
                "attempts": self.request.retries + 1,
                "failed_at": datetime.utcnow().isoformat(),
            })
            logger.error(
                "Webhook moved to DLQ after max retries",
                webhook_id=webhook_id,
                error=str(e),
            )
            return

        # Exponential backoff retry
        raise self.retry(exc=e, countdown=2 ** self.request.retries * 60)


# Pattern 7: Task Chaining and Workflows

from celery import chain, group, chord


@app.task
def extract_data(source_id):
    return [source_id, 2, 3]


@app.task
def transform_data(data):
    return [10 * each for each in data]


@app.task
def load_data(data, destination_id):
    return {destination_id: data}


@app.task
def send_sms(user_phone):
    noted("sms", user_phone)
    return "sms"


@app.task
def send_mail_to(user_email):
    return "mail"


@app.task
def update_analytics(event_data):
    return event_data["event"]


@app.task
def process_item(item_id):
    return 2 * item_id


@app.task
def send_completion_notification(results, batch_id):
    noted("completed", [results, batch_id])
    return [sum(results), batch_id]


def compose(source_id, destination_id, user_email, user_phone, event_data, item_ids, batch_id):
    # Simple chain: A -> B -> C
    workflow = chain(
        extract_data.s(source_id),
        transform_data.s(),
        load_data.s(destination_id),
    )
    yield workflow.apply_async()

    # Parallel execution: A, B, C all at once
    parallel = group(
        send_mail_to.s(user_email),
        send_sms.s(user_phone),
        update_analytics.s(event_data),
    )
    yield parallel.apply_async()

    # Chord: Run tasks in parallel, then a callback
    # Process all items, then send completion notification
    workflow = chord(
        [process_item.s(item_id) for item_id in item_ids],
        send_completion_notification.s(batch_id),
    )
    yield workflow.apply_async()
