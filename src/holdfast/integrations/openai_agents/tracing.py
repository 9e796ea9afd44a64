"""The SDK's traces, told once.

Promises: a span that ended before a crash is not exported again by the replay; ids are the same in every life, so what
ends later joins the same trace.
"""

from __future__ import annotations

from typing import Any

from agents.tracing import Span, Trace, TracingProcessor, get_trace_provider

from holdfast.integrations.openai_agents.options import running


class Muted(TracingProcessor):
    """A processor that hears nothing of replays."""

    def __init__(self, processor: TracingProcessor) -> None:
        self._processor = processor

    def on_trace_start(self, trace: Trace) -> None:
        if not _replaying():
            self._processor.on_trace_start(trace)

    def on_trace_end(self, trace: Trace) -> None:
        if not _replaying():
            self._processor.on_trace_end(trace)

    def on_span_start(self, span: Span[Any]) -> None:
        if not _replaying():
            self._processor.on_span_start(span)

    def on_span_end(self, span: Span[Any]) -> None:
        if not _replaying():
            self._processor.on_span_end(span)

    def shutdown(self) -> None:
        self._processor.shutdown()

    def force_flush(self) -> None:
        self._processor.force_flush()


def mute_replays() -> None:
    """Puts every processor that is registered now behind a `Muted`."""
    provider = get_trace_provider()
    known = getattr(getattr(provider, "_multi_processor", None), "_processors", ())
    if not all(isinstance(one, Muted) for one in known):
        provider.set_processors([one if isinstance(one, Muted) else Muted(one) for one in known])


def _replaying() -> bool:
    ctx = running()
    return ctx is not None and ctx.replaying
