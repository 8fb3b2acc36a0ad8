"""The reference of metrics lists what is exported."""

from __future__ import annotations

from kit.generated import load_generator

from pgqueue import PgQueue
from pgqueue.metrics import Metrics
from pgqueue.metrics.declared import OF_A_PROCESS, OF_THE_DATABASE

metrics = load_generator("metrics")


def test_the_page_is_what_the_declarations_make_it() -> None:
    assert metrics.PAGE.read_text(encoding="utf-8") == metrics.page(), "run `python docs/generate`"


def test_every_exported_metric_is_declared_and_every_declared_one_exported() -> None:
    exported = Metrics(PgQueue("postgresql://nowhere")).registry.collect()

    declared = {
        (each.name.removesuffix("_total"), each.kind, each.help_text)
        for each in (*OF_A_PROCESS, *OF_THE_DATABASE)
    }
    assert {(each.name, each.type, each.documentation) for each in exported} == declared
