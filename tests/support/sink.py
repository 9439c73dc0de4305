"""A stand-in for the collector, in a process of its own: takes runs apart, remembers what it was sent, answers as told.

    python -m tests.support.sink --port 0 [--keep]

Prints ``{"port": …}`` when ready; ends when its standard input does. ``--keep`` remembers every event (else only counts: for
benchmarks). Control, all on the same port, in JSON:

- ``POST /script``: answers for the next runs, one each: ``{"status", "headers", "body", "type", "tenant", "retention_days",
  "name": how many records it names, "cut": half the answer, then the connection ends, "hang": no answer, "store": take the run
  in all the same, "refuse": outcome reason for all records of data, "refuse_lines": text of lines that alone are refused}``. A
  run whose answer has no ``status`` or 200 is taken in.
- ``POST /rules``: the same with ``"contains"``: the answer for every run in which that text occurs (empty: any run), for as
  long as the rule stands (it refuses the records in which the text occurs, no others); with ``"partial"`` every run that holds
  a line without its end; with ``"kind"`` every run that holds a record of that kind. A script's answer comes first.
  ``"heartbeats"``: the status for those, which no other rule or script is for.
- ``GET /seen``: counts, ``texts`` (text of an event -> its IDs), ``deliveries`` (ID -> how often), ``losses``, ``heartbeats``,
  ``faults`` (what was wrong with a run, by the wire contract).

`SinkProcess` starts one from a test.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import select
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from agent import wire
from agent.codec import decompress
from agent.text import packing

TENANT = "tenant-of-the-sink"
MONTH_LIMIT = 10_000
REPOSITORY = Path(__file__).resolve().parents[2]
_START_DEADLINE_S = 30.0


def holds(record: wire.Record, text: bytes) -> bool:
    return not text or text in decompress(record.payload, record.header.raw_bytes)


class Sink:
    def __init__(self, *, keep: bool) -> None:
        self.keep = keep
        self.script: list[dict[str, Any]] = []
        self.rules: list[dict[str, Any]] = []
        self.runs = self.records = self.events = self.bytes = self.replays = self.largest_run = 0
        self.deliveries: dict[str, int] = {}
        self.texts: dict[str, set[str]] = {}
        self.buried: set[str] = set()
        self.keys: dict[str, int] = {}
        self.tenants: dict[str, int] = {}
        self.losses: list[Any] = []
        self.heartbeats: list[dict[str, Any]] = []
        self.faults: list[str] = []

    async def blocks(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if (heartbeat := self.heartbeat(body)) is not None:
            return heartbeat
        self.runs += 1
        self.replays += wire.REPLAY_HEADER in request.headers
        key = request.headers.get("X-API-Key", "")
        self.keys[key] = self.keys.get(key, 0) + 1
        tenant = request.headers.get(wire.TENANT_HEADER, "")
        self.tenants[tenant] = self.tenants.get(tenant, 0) + 1
        try:
            records = list(wire.decode_run(body))
        except wire.BadRecord as error:
            self.faults.append(str(error))
            return web.Response(status=400)
        self.largest_run = max(self.largest_run, len(records))
        step = self.script.pop(0) if self.script else self.rule_for(records)
        if step.get("hang"):
            if step.get("store"):
                for record in records:
                    self.take(record, "")
            await asyncio.Event().wait()
        if step.get("status", 200) != 200 and not step.get("store"):
            return self.scripted(step, b"")
        refused = step.get("contains", "").encode()
        lines = step.get("refuse_lines", "").encode()
        outcomes = tuple(
            self.take_lines(record, lines)
            if lines and holds(record, lines)
            else self.take(record, step.get("refuse", "") if holds(record, refused) else "")
            for record in records
        )
        named = outcomes[: step.get("name", len(outcomes))]
        answer = msgspec.json.encode(wire.Answer(step.get("tenant", TENANT), named, step.get("retention_days", 0)))
        if step.get("cut"):
            response = web.StreamResponse(headers={"Content-Length": str(len(answer)), "Content-Type": wire.ANSWER_TYPE})
            await response.prepare(request)
            await response.write(answer[: len(answer) // 2])
            assert request.transport is not None
            request.transport.close()
            return response
        return self.scripted(step, answer)

    def heartbeat(self, body: bytes) -> web.Response | None:
        """The answer to a heartbeat; it counts as no run, so that scripts and counts are those of data."""
        try:
            records = list(wire.decode_run(body))
        except wire.BadRecord:
            return None
        if not records or records[0].header.kind != wire.HEARTBEAT:
            return None
        header = records[0].header
        beat = wire.decode_heartbeat(decompress(records[0].payload, header.raw_bytes))
        self.heartbeats.append({"agent": header.agent, "scope": header.scope, **msgspec.structs.asdict(beat)})
        self.heartbeats[-1]["files"] = [msgspec.structs.asdict(file) for file in beat.files]
        days = 0
        for rule in self.rules:
            if "heartbeats" in rule:
                return web.Response(status=rule["heartbeats"])
            days = rule.get("retention_days", days)
        answer = wire.Answer(TENANT, (wire.RecordOutcome(header.record_id, wire.ACCEPTED),), days)
        return web.Response(body=msgspec.json.encode(answer), content_type=wire.ANSWER_TYPE)

    def rule_for(self, records: list[wire.Record]) -> dict[str, Any]:
        for rule in self.rules:
            if "heartbeats" in rule:
                continue
            if "kind" in rule:
                if any(record.header.kind == rule["kind"] for record in records):
                    return rule
                continue
            if rule.get("partial"):
                if any(record.header.flags & wire.PARTIAL for record in records):
                    return rule
                continue
            text = rule["contains"].encode()
            if not text or any(holds(record, text) for record in records):
                return rule
        return {}

    def scripted(self, step: dict[str, Any], answer: bytes) -> web.Response:
        if step.get("status") in (400, 413, 422) and "body" not in step:
            error = {"code": "refused", "message": "as the test says", "errors": []}
            return web.json_response({"error": error}, status=step["status"])
        body = step["body"].encode() if "body" in step else answer
        headers = {"Content-Type": step.get("type", wire.ANSWER_TYPE), **step.get("headers", {})}
        return web.Response(status=step.get("status", 200), body=body, headers=headers)

    def take(self, record: wire.Record, refuse: str) -> wire.RecordOutcome:
        header = record.header
        self.records += 1
        if refuse and header.kind == wire.DATA:
            return wire.RecordOutcome(header.record_id, wire.REJECTED, rejected=header.events, reason=refuse)
        self.events += header.events
        if header.kind == wire.LOSS:
            losses = wire.decode_losses(decompress(record.payload, header.raw_bytes))
            self.losses += [{name: getattr(loss, name) for name in wire.Loss.__struct_fields__} for loss in losses]
        elif header.kind == wire.COMPLETED:
            self.bury(set(wire.decode_completed(decompress(record.payload, header.raw_bytes))))
        elif self.keep:
            self.remember(record)
        return wire.RecordOutcome(header.record_id, wire.ACCEPTED, accepted=header.events)

    def take_lines(self, record: wire.Record, refused: bytes) -> wire.RecordOutcome:
        """Some of a record's lines are refused, some are there already, the others are taken."""
        header = record.header
        self.records += 1
        events = list(packing.events_of(header, decompress(record.payload, header.raw_bytes)))
        names = [wire.event_id(header.file_id, at, event) for at, event in events if refused not in event]
        known = sum(name in self.deliveries for name in names)
        self.events += len(names)
        self.remember(record, but=refused)
        exceptions = tuple(wire.EventOutcome(at, wire.REJECTED, "no") for at, event in events if refused in event)
        return wire.RecordOutcome(
            header.record_id, wire.MIXED, accepted=len(names) - known, duplicate=known, rejected=len(exceptions),
            exceptions=exceptions,
        )  # fmt: skip

    def bury(self, names: set[str]) -> None:
        """As a store does: what is there is deleted, and stays so however often it is sent again."""
        self.buried |= names & self.deliveries.keys()
        self.texts = {text: left for text, ids in self.texts.items() if (left := ids - names)}

    def remember(self, record: wire.Record, *, but: bytes = b"") -> None:
        header = record.header
        raw = decompress(record.payload, header.raw_bytes)
        self.bytes += len(raw)
        events = list(packing.events_of(header, raw))
        plain = not isinstance(header, wire.ShapedHeader)
        if plain and raw and not header.flags & wire.PARTIAL and not raw.endswith(b"\n"):
            self.faults.append(f"{header.record_id}: ends without a newline and is not flagged partial")
        if (len(raw), len(events)) != (header.raw_bytes, header.events):
            self.faults.append(f"{header.record_id}: holds {len(raw)} bytes and {len(events)} events, the header differs")
        for at, event in events:
            if but and but in event:
                continue
            name = wire.event_id(header.file_id, at, event)
            self.deliveries[name] = self.deliveries.get(name, 0) + 1
            if name not in self.buried:
                self.texts.setdefault(event.decode("utf-8", "replace"), set()).add(name)

    async def set_script(self, request: web.Request) -> web.Response:
        self.script = await request.json()
        return web.json_response({})

    async def set_rules(self, request: web.Request) -> web.Response:
        self.rules = await request.json()
        return web.json_response({})

    async def rate_limit(self, _: web.Request) -> web.Response:
        return web.json_response({"tenant_id": TENANT, "month": {"limit": MONTH_LIMIT}, "limits": {"retention_days": 30}})

    async def seen(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "runs": self.runs,
                "records": self.records,
                "events": self.events,
                "bytes": self.bytes,
                "replays": self.replays,
                "largest_run": self.largest_run,
                "keys": self.keys,
                "tenants": self.tenants,
                "ids": len(self.deliveries),
                "texts": {text: sorted(names) for text, names in self.texts.items()},
                "deliveries": self.deliveries,
                "losses": self.losses,
                "heartbeats": self.heartbeats,
                "faults": self.faults,
            }
        )


class Seen(NamedTuple):
    """What a sink says it was sent."""

    runs: int
    records: int
    events: int
    bytes: int
    replays: int
    largest_run: int
    keys: dict[str, int]
    tenants: dict[str, int]
    ids: int
    texts: dict[str, list[str]]
    deliveries: dict[str, int]
    losses: list[dict[str, Any]]
    heartbeats: list[dict[str, Any]]


class SinkProcess:
    """A sink to start, stop and start again on the same port."""

    def __init__(self, *, tls: tuple[Path, Path] | None = None, clients: Path | None = None) -> None:
        """``tls``: certificate and key, for a port of its own. ``clients``: who may connect there, by its authority."""
        self.port = self.tls_port = 0
        self._tls = ["--tls", *map(str, tls)] if tls else []
        self._tls += ["--clients", str(clients)] if clients else []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"https://127.0.0.1:{self.tls_port}"

    def start(self) -> None:
        """Start it, as empty as a new one. Raises AssertionError when it does not come up."""
        arguments = [sys.executable, "-m", "tests.support.sink", "--keep", "--port", str(self.port), *self._tls]
        self._process = subprocess.Popen(arguments, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], _START_DEADLINE_S)
        assert readable, "the sink did not start"
        said = json.loads(self._process.stdout.readline())
        self.port, self.tls_port = said["port"], said["tls_port"]

    def stop(self) -> None:
        """End it: connections are refused from now on."""
        process, self._process = self._process, None
        if process is not None:
            with process:
                process.kill()

    def __enter__(self) -> SinkProcess:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def script(self, *answers: Mapping[str, Any]) -> None:
        """Answers for the next runs, one each."""
        self._request("POST", "/script", answers)

    def rules(self, *rules: Mapping[str, Any]) -> None:
        """Answers for all runs that contain a text, until other rules are given."""
        self._request("POST", "/rules", [{"contains": "", **rule} for rule in rules])

    def seen(self) -> Seen:
        """Fails when a run broke the wire contract."""
        answer = self._request("GET", "/seen")
        faults = answer.pop("faults")
        assert not faults, faults
        return Seen(**answer)

    def _request(self, method: str, path: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_START_DEADLINE_S)
        try:
            connection.request(method, path, body=json.dumps(body))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--tls", nargs=2)
    parser.add_argument("--clients")
    options = parser.parse_args()
    sink = Sink(keep=options.keep)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post(wire.BLOCKS_PATH, sink.blocks)
    app.router.add_post("/script", sink.set_script)
    app.router.add_post("/rules", sink.set_rules)
    app.router.add_get(wire.RATE_LIMIT_PATH, sink.rate_limit)
    app.router.add_get("/seen", sink.seen)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", options.port)
    await site.start()
    if options.tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=options.clients)
        context.load_cert_chain(*options.tls)
        context.verify_mode = ssl.CERT_REQUIRED if options.clients else ssl.CERT_NONE
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    ports = [address[1] for address in runner.addresses]
    print(json.dumps({"port": ports[0], "tls_port": ports[-1]}), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
