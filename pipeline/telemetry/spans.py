# SPDX-License-Identifier: Apache-2.0
"""A late frame as a trace: a span for its whole way, and in it one for each part, with the times of its own marks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import set_span_in_context

from pipeline.ledger import Late
from pipeline.telemetry.identity import trace_id
from pipeline.timing import PARTS, PTS, Anchor, Mark

SCOPE: Final = "pipeline"


class Spans:
    """Makes the spans of one run.

    Args:
        run: a secret of the run that numbers its traces.
        anchor: what wall time a mark was.
        resource: what all spans say of the program.
    """

    def __init__(self, run: bytes, anchor: Anchor, resource: Resource) -> None:
        self._run = run
        self._anchor = anchor
        self._numbers = _Numbers()
        self._ended = _Ended()
        provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, id_generator=self._numbers)
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer(SCOPE)

    def of(self, frames: Iterable[Late]) -> list[ReadableSpan]:
        """All spans of these frames."""
        spans: list[ReadableSpan] = []
        self._ended.spans = spans
        for late in frames:
            self._numbers.trace_id = trace_id(self._run, late)
            self._trace(late)
        return spans

    def _trace(self, late: Late) -> None:
        began_ns = late.trace[Mark.READ]
        whole = self._tracer.start_span("frame", Context(), attributes=_facts(late), start_time=self._wall(began_ns))
        inside = set_span_in_context(whole, Context())
        for part, since_ns, until_ns in _parts(late.trace):
            facts: dict[str, Any] = {"pipeline.late": part == late.part}
            if part in late.usual:
                facts["pipeline.usual_ms"] = late.usual[part] / 1e6
            span = self._tracer.start_span(part, inside, attributes=facts, start_time=self._wall(since_ns))
            span.end(self._wall(until_ns))
        whole.end(self._wall(late.ended_ns))

    def _wall(self, at_ns: int) -> int:
        return self._anchor.wall_ns(at_ns)


def _parts(trace: list[int]) -> Iterator[tuple[str, int, int]]:
    """The parts of a frame's way, in order: they follow each other without a gap."""
    name, since_ns, before_ns = "", trace[Mark.READ], trace[Mark.READ]
    for mark in list(Mark)[1:]:
        if not trace[mark]:
            continue
        if PARTS[mark] != name:
            if name:
                yield name, since_ns, before_ns
            name, since_ns = PARTS[mark], before_ns
        before_ns = trace[mark]
    if name:
        yield name, since_ns, before_ns


def _facts(late: Late) -> dict[str, Any]:
    facts = {
        "pipeline.stream": late.stream,
        "pipeline.frame": late.frame,
        "pipeline.pts_s": late.trace[PTS] / 1e9,
        "pipeline.verdict": late.reason.verdict,
        "pipeline.part": late.part,
        "pipeline.excess_ms": late.excess_ns / 1e6,
        "pipeline.limit_ms": late.limit_ns / 1e6,
        "pipeline.limit_by": late.by,
    }
    batch = late.reason.batch
    if batch is not None:
        facts |= {"pipeline.batch": batch.number, "pipeline.batch_items": batch.items, "pipeline.worker": batch.worker}
    return facts


class _Numbers(RandomIdGenerator):
    """Spans are numbered at random, traces as they are told."""

    trace_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id


class _Ended(SpanProcessor):
    """Keeps what has ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)
