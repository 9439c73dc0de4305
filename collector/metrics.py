"""Every metric of the collector, declared once.

- Names are ``collector_…`` with the unit, ``_total`` for counters. Seconds and bytes, never anything smaller or larger.
- Labels come from small fixed sets: a route, a status, an outcome or reason code. Never a path, a tenant, or anything
  that came in a request.
- One `Metrics` per program, with a registry of its own, so that two of them can live in one test.
- Workers on one port are one collector: a scrape, which reaches any of them, shows all together. Their values live in
  files of a shared folder, one set for each worker's place. A worker that is started again counts on where the one before
  it ended, to the last event, so no counter goes back. Gauges are summed over the workers that run, or say the worst of
  them. Only what the system says of processes is shown for each (label ``worker``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Literal

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
from prometheus_client import values as clients
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from collector.serving.peers import ALONE, Peers

CONTENT_TYPE = CONTENT_TYPE_LATEST
disable_created_metrics()  # type: ignore[no-untyped-call]  # a `_created` series beside each counter doubles what is scraped, for nothing we use
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_COMMIT_BYTES = (1e3, 1e4, 1e5, 1e6, 2e6, 4e6, 8e6, 16e6)


Merged = Literal["livesum", "livemin", "livemax", "livemostrecent"]


def share(folder: str, number: int) -> None:
    """From now on instruments are made in this folder, as those of the worker with this number."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    clients.ValueClass = clients.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]


class Metrics:
    """The instruments; whoever owns a fact counts it here."""

    def __init__(self, peers: Peers = ALONE) -> None:
        self.registry = registry = CollectorRegistry()
        self._shown = registry
        if peers.alone:
            ProcessCollector(registry=registry)
            GCCollector(registry=registry)
        else:
            self._shown = CollectorRegistry()
            MultiProcessCollector(self._shown, peers.folder)  # type: ignore[no-untyped-call]
            self._shown.register(Processes(peers.running))
        PlatformCollector(registry=self._shown)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"collector_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, merged: Merged = "livesum") -> Gauge:
            return Gauge(f"collector_{name}", text, registry=registry, multiprocess_mode=merged)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"collector_{name}", text, labels, buckets=buckets, registry=registry)

        # Processes: counted here.
        self.starts = counter("starts", "Processes started; more than there are workers: some died and were replaced.")
        self.workers = gauge("workers", "Processes that run.")
        self.starts.inc()
        self.workers.set(1)

        # HTTP: counted by app.py. `route` is the route's pattern, or "unknown".
        self.requests = counter("http_requests", "Requests answered.", "route", "status")
        self.request_seconds = histogram("http_request_duration_seconds", "From head to answer.", _SECONDS, "route")
        self.request_bytes = counter("http_request_body_bytes", "Bytes of request bodies read.", "route")
        self.requests_in_flight = gauge("http_requests_in_flight", "Requests being worked on.")
        self.auth_failures = counter("auth_failures", "Requests refused for their credential.", "reason")

        # TLS: counted by tls.py; there are values only where the collector speaks TLS itself.
        self.tls_failures = counter("tls_handshake_failures", "TLS handshakes that failed, by reason.", "reason")
        self._tls_reloads = counter(
            "tls_reloads", "Changed certificate files that were read, by result (ok, refused).", "result"
        )
        self._tls_refused = gauge(
            "tls_refused", "1 while changed certificate files are refused, and the old in force.", "livemax"
        )
        self.tls_ends = gauge(
            "tls_certificate_ends_timestamp_seconds", "When the certificate ends, in seconds since 1970; 0: no TLS.", "livemin"
        )

        # Ingest: counted by ingest.py from the outcomes.
        self.records = counter("records", "Agent records answered.", "outcome")
        self.events = counter("events", "Events answered, by what became of them.", "outcome")
        self.events_refused = counter("events_refused", "Events not stored, by reason.", "reason")
        self.runs_refused = counter("runs_refused", "Runs refused whole, by error code.", "code")
        self.losses = counter("reported_losses", "Loss records taken from agents.")

        # Limits: counted by quota.py, caller.py and buckets.py.
        self.limited = counter("limited", "Requests or parts of them beyond a tenant's limit, by code.", "reason")
        self.limits_shared = gauge("limits_shared", "1 while budgets are shared through Redis.", "livemin")
        self.limits_part = gauge("limits_part", "The part of every rate that one process allows by itself.", "livemin")
        self.limits_fallbacks = counter("limits_fallbacks", "Times that Redis did not answer for a budget.")

        # Agents: counted by agents.py, from heartbeats taken by this collector; one heard by several workers counts once.
        self.heartbeats = counter("agent_heartbeats", "Heartbeats taken.")
        self.agents = gauge("agents", "Agents heard lately that did not say goodbye.", "livemostrecent")
        # By lookout.py, from the store: of all collectors that share it.
        self.agents_silent = gauge(
            "agents_silent", "Agents heard in the last day, but not lately, that did not say goodbye.", "livemostrecent"
        )
        self.agents_lag_bytes = gauge("agents_lag_bytes", "Bytes of their files that are not acknowledged.", "livemostrecent")
        self.agents_lag_seconds = gauge(
            "agents_lag_seconds", "Age of the oldest byte not acknowledged, of the worst of them.", "livemostrecent"
        )
        self.agents_lost_bytes = gauge("agents_lost_bytes", "Bytes they lost since their starts.", "livemostrecent")

        # Writer: counted by writer.py.
        self.commits = counter("commits", "Group commits, by result (ok, away, split, failed).", "result")
        self.commits_old = counter("commits_old", "Group commits of data older than a day.")
        self.commit_seconds = histogram("commit_duration_seconds", "One group commit, lookups included.", _SECONDS)
        self.commit_bytes = histogram("commit_size_bytes", "Raw bytes in one group commit.", _COMMIT_BYTES)
        self.queue_bytes = gauge("queue_waiting_bytes", "Raw bytes waiting for a commit.")
        self.queue_full = counter("queue_full", "Requests refused because too much was waiting.", "scope")
        self.lookups = counter("duplicate_lookups", "Records, and IDs of single events, looked up before the insert.")
        self.clock_ahead = counter("events_clock_ahead", "Events stored at their observed time: theirs was in the future.")
        self.parse_errors = counter("events_parse_errors", "Events kept whole because a part did not parse.", "kind")

        # Store and search.
        self.store_up = gauge("store_up", "1 when the store answered the last time it was asked.", "livemin")
        self.free_disk = gauge("store_free_disk_ratio", "Of the store's fullest disk; by lookout.py.", "livemostrecent")
        self.free_disk.set(float("nan"))  # not known yet, which is not 0
        self.parts_set_aside = gauge(
            "store_parts_set_aside", "Damaged parts of the store that are set aside.", "livemostrecent"
        )
        self.rows_without_index = gauge(
            "store_rows_without_word_index", "Events that a search for words has to read one by one.", "livemostrecent"
        )
        self.store_errors = counter("store_errors", "Statements the engine refused, by kind (away, error).", "kind")
        self.queries = counter("queries", "Queries of callers, by endpoint and result.", "endpoint", "result")
        self.query_seconds = histogram("query_duration_seconds", "Queries of callers.", _SECONDS, "endpoint")

        # Streams: counted by export.py and tail.py.
        self.exports = counter("exports", "Exports, by format and by how they ended (whole, cut, left).", "format", "result")
        self.exported = counter("exported_events", "Events that exports sent.", "format")
        self.tails = gauge("tails", "Tails that are open.")
        self.tail_events = counter("tail_events", "Events passed on to tails.")
        self.tail_missed = counter("tail_missed_events", "Events that slow readers of tails missed, and were told of.")
        self.tail_poll_seconds = histogram("tail_poll_duration_seconds", "One look for what is new, for all tails.", _SECONDS)

    def tls_reload(self, result: Literal["ok", "refused"]) -> None:
        """Changed certificate files were read."""
        self._tls_reloads.labels(result).inc()
        self._tls_refused.set(result == "refused")

    def text(self) -> bytes:
        """The exposition format, for /metrics."""
        return generate_latest(self._shown)


class Processes:
    """What the system says of each worker: `running` gives number and process."""

    def __init__(self, running: Callable[[], dict[int, int]]) -> None:
        self._running = running

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for number, pid in sorted(self._running().items()):
            for family in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                kept = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                kept.samples += [sample._replace(labels={"worker": str(number)}) for sample in family.samples]
        return families.values()
