"""The parts of a running collector, and the typed keys under which handlers find them in the application.

Each part is made by one pair in `collector.app`, and by nothing else.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from collector.config import Config
from collector.ingest.intake import Intake
from collector.ingest.outcomes_log import OutcomesLog
from collector.ingest.workbench import Workbench
from collector.limits.quota import Quota
from collector.limits.usage import Usage
from collector.metrics import Metrics
from collector.search.agents import Agents
from collector.search.reaches import Reaches
from collector.search.turnstile import Places, Turnstile
from collector.serving.forwarding import Proxies
from collector.serving.peers import Lock, Peers
from collector.store.breakage import Breakage
from collector.store.store import Store
from collector.streams.seats import Seats
from collector.streams.tails import Tails
from collector.tenants.auth import AdminGate, Keyring
from collector.tenants.keys import KeyUses
from collector.writing.writer import Writer


class Readiness:
    """Why the collector cannot take requests, in words for an operator; empty when it can."""

    def __init__(self) -> None:
        self.reason = "starting"
        self.since_s = time.monotonic()
        """When this process started."""


CONFIG = web.AppKey("config", Config)
PEERS = web.AppKey("peers", Peers)
"""The other processes on this port."""
PROXIES = web.AppKey("proxies", Proxies)
METRICS = web.AppKey("metrics", Metrics)
READINESS = web.AppKey("readiness", Readiness)
STORE = web.AppKey("store", Store)
BREAKAGE = web.AppKey("breakage", Breakage)
WRITER = web.AppKey("writer", Writer)
KEY_USES = web.AppKey("key_uses", KeyUses)
KEYRING = web.AppKey("keyring", Keyring)
ADMIN_GATE = web.AppKey("admin_gate", AdminGate)
INTAKE = web.AppKey("intake", Intake)
REGISTERING = web.AppKey("registering", Lock)
"""Held while a tenant is made or changed, by any worker."""
SAVING = web.AppKey("saving", Lock)
"""Held while a saved search is made or changed, by any worker."""
TURNSTILE = web.AppKey("turnstile", Turnstile)
REACHES = web.AppKey("reaches", Reaches)
THREADS = web.AppKey("threads", ThreadPoolExecutor)
"""For unpacking bodies and taking agents' runs apart, beside the event loop."""
STOPPING = web.AppKey("stopping", asyncio.Event)
"""Set when the collector is told to stop: what would go on for ever ends."""
STREAMS = web.AppKey("streams", set[asyncio.Transport])
"""Connections of exports and tails that go on."""
TAILS = web.AppKey("tails", Tails)
TAIL_SEATS = web.AppKey("tail_seats", Seats)
EXPORTS = web.AppKey("exports", Seats)
WORKBENCH = web.AppKey("workbench", Workbench)

QUOTA = web.AppKey("quota", Quota)
USAGE = web.AppKey("usage", Usage)
OUTCOMES = web.AppKey("outcomes", OutcomesLog)
AGENTS = web.AppKey("agents", Agents)
PLACES = web.AppKey("places", Places)

REQUEST_ID = "request_id"
TENANT_ID = "tenant_id"
"""Names under which a request carries what its log line says."""
TENANT = "tenant"
"""Whose request it is (a `collector.tenants.tenants.Tenant`), once `collector.tenants.caller` knows."""
