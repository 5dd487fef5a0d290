"""Prometheus metrics of the server."""

from collections.abc import Iterable
from typing import final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .engines import Engines
from .sessions import Sessions
from .slots import Slots

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@final
class Metrics:
    """Counters of one server, in their own registry.

    Attributes:
        requests: Answered requests by `route` and `status`.
        seconds: From a request's headers to the last byte of its response, by `route`.
        generated: Generated tokens.
        reloads: Reloads of the model, by `result`: replaced, unchanged or refused.
    """

    def __init__(self, name: str, engines: Engines, slots: Slots, sessions: Sessions) -> None:
        """`name` is the model's."""
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
        self.reloads = Counter("lmtool_reloads", "Reloads of the model.", ("result",), registry=self._registry)
        self._counters: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._name = name
        self._engines = engines
        self._slots = slots
        self._sessions = sessions
        self._registry.register(self)

    def count(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        counters = self._counters.get((route, status))
        if counters is None:
            counters = self.requests.labels(route, str(status)), self.seconds.labels(route)
            self._counters[route, status] = counters
        counters[0].inc()
        counters[1].observe(seconds)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """The counters of the engines, their pools, the slots and the sessions; prometheus-client calls it."""
        info = GaugeMetricFamily("lmtool_model_info", "The served model; always 1.", labels=("model", "sha256"))
        info.add_metric((self._name, self._engines.current.sha256), 1)
        yield info
        stats = [engine.pool.stats for engine in self._engines]
        gauges = {
            "models": ("The served model, and replaced ones whose requests have not ended.", len(self._engines)),
            "slots": ("Choices that may be written at once.", self._slots.count),
            "slots_in_use": ("Choices that are being written.", self._slots.taken),
            "sessions": ("Sessions that are kept.", len(self._sessions)),
            "pool_streams": ("Open streams of the pool.", sum(pool.open_streams for pool in stats)),
            "pool_jobs": ("Texts that the pool writes.", sum(pool.jobs for pool in stats)),
            "pool_waiting": ("Requests of the pool that wait for a call.", sum(pool.waiting for pool in stats)),
            "pool_state_bytes": ("Size of the open streams' states.", sum(pool.state_bytes for pool in stats)),
        }
        totals = self._engines.totals
        counters = {
            "refused": ("Requests that found too few slots free.", self._slots.refused),
            "tokens_read": ("Tokens that the model read.", totals["tokens_read"]),
            "pool_calls": ("Calls of the model.", totals["pool_calls"]),
            "pool_requests": ("Requests of the pool that ran in these calls.", totals["pool_requests"]),
            "pool_padding": ("Rows of these calls that belonged to no request.", totals["pool_padding"]),
        }
        for name, (help_text, value) in gauges.items():
            yield GaugeMetricFamily(f"lmtool_{name}", help_text, value)
        for name, (help_text, value) in counters.items():
            yield CounterMetricFamily(f"lmtool_{name}", help_text, value)
