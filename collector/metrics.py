"""Every metric of the collector, declared once.

- Names are ``collector_…`` with the unit, ``_total`` for counters. Seconds and bytes, never anything smaller or larger.
- Labels come from small fixed sets: a route, a status, an outcome or reason code. Never a path, a tenant, or anything
  that came in a request.
- One `Metrics` per program, with a registry of its own, so that two of them can live in one test.
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
disable_created_metrics()  # type: ignore[no-untyped-call]  # a `_created` series beside each counter doubles what is scraped, for nothing we use
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_COMMIT_BYTES = (1e3, 1e4, 1e5, 1e6, 2e6, 4e6, 8e6, 16e6)


class Metrics:
    """The instruments; whoever owns a fact counts it here."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"collector_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"collector_{name}", text, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"collector_{name}", text, labels, buckets=buckets, registry=registry)

        # HTTP: counted by app.py. `route` is the route's pattern, or "unknown".
        self.requests = counter("http_requests", "Requests answered.", "route", "status")
        self.request_seconds = histogram("http_request_duration_seconds", "From head to answer.", _SECONDS, "route")
        self.request_bytes = counter("http_request_body_bytes", "Bytes of request bodies read.", "route")
        self.requests_in_flight = gauge("http_requests_in_flight", "Requests being worked on.")
        self.auth_failures = counter("auth_failures", "Requests refused for their credential.", "reason")

        # Ingest: counted by ingest.py from the outcomes.
        self.records = counter("records", "Agent records answered.", "outcome")
        self.events = counter("events", "Events answered, by what became of them.", "outcome")
        self.events_refused = counter("events_refused", "Events not stored, by reason.", "reason")
        self.runs_refused = counter("runs_refused", "Runs refused whole, by error code.", "code")
        self.losses = counter("reported_losses", "Loss records taken from agents.")

        # Limits: counted by quota.py, caller.py and buckets.py.
        self.limited = counter("limited", "Requests or parts of them beyond a tenant's limit, by code.", "reason")
        self.limits_shared = gauge("limits_shared", "1 while budgets are shared through Redis.")
        self.limits_fallbacks = counter("limits_fallbacks", "Times that Redis did not answer for a budget.")

        # Agents: counted by agents.py, from heartbeats taken by this process.
        self.heartbeats = counter("agent_heartbeats", "Heartbeats taken.")
        self.agents = gauge("agents", "Agents heard lately that did not say goodbye.")
        self.agents_lag_bytes = gauge("agents_lag_bytes", "Bytes of their files that are not acknowledged.")
        self.agents_lag_seconds = gauge("agents_lag_seconds", "Age of the oldest byte not acknowledged, of the worst of them.")
        self.agents_lost_bytes = gauge("agents_lost_bytes", "Bytes they lost since their starts.")

        # Writer: counted by writer.py.
        self.commits = counter("commits", "Group commits, by result (ok, away, split, failed).", "result")
        self.commit_seconds = histogram("commit_duration_seconds", "One group commit, lookups included.", _SECONDS)
        self.commit_bytes = histogram("commit_size_bytes", "Raw bytes in one group commit.", _COMMIT_BYTES)
        self.queue_bytes = gauge("queue_waiting_bytes", "Raw bytes waiting for a commit.")
        self.queue_full = counter("queue_full", "Requests refused because too much was waiting.", "scope")
        self.lookups = counter("duplicate_lookups", "Records, and IDs of single events, looked up before the insert.")
        self.clock_ahead = counter("events_clock_ahead", "Events stored at their observed time: theirs was in the future.")
        self.parse_errors = counter("events_parse_errors", "Events kept whole because a part did not parse.", "kind")

        # Store and search.
        self.store_up = gauge("store_up", "1 when the store answered the last time it was asked.")
        self.store_errors = counter("store_errors", "Statements the engine refused, by kind (away, error).", "kind")
        self.queries = counter("queries", "Queries of callers, by endpoint and result.", "endpoint", "result")
        self.query_seconds = histogram("query_duration_seconds", "Queries of callers.", _SECONDS, "endpoint")

    def text(self) -> bytes:
        """The exposition format, for /metrics."""
        return generate_latest(self.registry)
