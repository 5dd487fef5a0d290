"""Prometheus metrics of the server."""

from collections.abc import Iterable
from typing import final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .engine import Engine
from .sessions import Sessions

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@final
class Metrics:
    """Counters of one server, in their own registry.

    Attributes:
        requests: Answered requests by `route` and `status`.
        seconds: From a request's headers to the last byte of its response, by `route`.
        generated: Generated tokens.
    """

    def __init__(self, engine: Engine, sessions: Sessions) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter("lmtool_requests", "Answered requests.", ("route", "status"), registry=self._registry)
        self.seconds = Histogram(
            "lmtool_request_seconds",
            "From a request's headers to its answer's last byte.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.generated = Counter("lmtool_tokens_generated", "Tokens that were drawn.", registry=self._registry)
        self._engine = engine
        self._sessions = sessions
        self._registry.register(self)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """The counters of the engine, its pool and the sessions; prometheus-client calls it."""
        engine, stats = self._engine, self._engine.pool.stats
        gauges = {
            "slots": ("Choices that may be written at once.", engine.slots),
            "slots_in_use": ("Choices that are being written.", engine.slots_taken),
            "sessions": ("Sessions that are kept.", len(self._sessions)),
            "pool_streams": ("Open streams of the pool.", stats.open_streams),
            "pool_waiting": ("Requests of the pool that wait for a call.", stats.waiting),
            "pool_state_bytes": ("Size of the open streams' states.", stats.state_bytes),
        }
        counters = {
            "refused": ("Requests that found too few slots free.", engine.refused),
            "tokens_read": ("Tokens that the model read.", engine.tokens_read),
            "pool_calls": ("Calls of the model.", stats.calls),
            "pool_requests": ("Requests of the pool that ran in these calls.", stats.requests),
            "pool_padding": ("Rows of these calls that belonged to no request.", stats.padding),
        }
        for name, (help_text, value) in gauges.items():
            yield GaugeMetricFamily(f"lmtool_{name}", help_text, value)
        for name, (help_text, value) in counters.items():
            yield CounterMetricFamily(f"lmtool_{name}", help_text, value)
