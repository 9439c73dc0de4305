"""A stand-in for the collector, in a process of its own: takes runs apart, remembers what it was sent, answers as told.

    python -m tests.support.sink --port 0 [--keep]

Prints ``{"port": …}`` when ready. ``--keep`` remembers every event's ID (else only counts: for benchmarks). Control, all on
the same port: ``POST /script`` takes a JSON list of answers for the next runs, each ``{"status", "headers", "body", "type",
"store": bool, "cut": bool, "hang": bool}``; ``GET /seen`` gives ``{"runs", "records", "events", "bytes", "ids", "replays"}``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any

import msgspec
from aiohttp import web

from agent import wire
from agent.codec import decompress

TENANT = "tenant-of-the-sink"


class Sink:
    def __init__(self, *, keep: bool) -> None:
        self.keep = keep
        self.script: list[dict[str, Any]] = []
        self.runs = self.records = self.events = self.bytes = self.replays = 0
        self.ids: dict[str, int] = {}
        self.losses: list[Any] = []

    async def blocks(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.runs += 1
        self.replays += wire.REPLAY_HEADER in request.headers
        step = self.script.pop(0) if self.script else {}
        if step.get("hang"):
            await asyncio.Event().wait()
        if step.get("status", 200) != 200 and not step.get("store"):
            return self.scripted(step, b"")
        outcomes = tuple(self.take(record) for record in wire.decode_run(body))
        answer = msgspec.json.encode(wire.Answer(step.get("tenant", TENANT), outcomes[: step.get("name", len(outcomes))]))
        if step.get("cut"):
            response = web.StreamResponse(headers={"Content-Length": str(len(answer)), "Content-Type": wire.ANSWER_TYPE})
            await response.prepare(request)
            await response.write(answer[: len(answer) // 2])
            request.transport.close()
            return response
        return self.scripted(step, answer)

    def scripted(self, step: dict[str, Any], answer: bytes) -> web.Response:
        body = step["body"].encode() if "body" in step else answer
        headers = {"Content-Type": step.get("type", wire.ANSWER_TYPE), **step.get("headers", {})}
        return web.Response(status=step.get("status", 200), body=body, headers=headers)

    def take(self, record: wire.Record) -> wire.RecordOutcome:
        header = record.header
        self.records += 1
        self.events += header.events
        if header.kind == wire.LOSS:
            self.losses += [msgspec.to_builtins(loss) for loss in wire.decode_losses(decompress(record.payload, header.raw_bytes))]
        elif self.keep:
            self.remember(record)
        return wire.RecordOutcome(header.record_id, wire.ACCEPTED, accepted=header.events)

    def remember(self, record: wire.Record) -> None:
        header = record.header
        raw = decompress(record.payload, header.raw_bytes)
        self.bytes += len(raw)
        assert len(raw) == header.raw_bytes
        at = header.base_offset
        lines = raw.split(b"\n")
        if not header.flags & wire.PARTIAL:
            assert lines.pop() == b""
        assert len(lines) == header.events
        for line in lines:
            name = wire.event_id(header.file_id, at, line.removesuffix(b"\r"))
            self.ids[name] = self.ids.get(name, 0) + 1
            self.texts.setdefault(line.decode("utf-8", "replace"), set()).add(name)
            at += len(line) + 1

    texts: dict[str, set[str]] = {}

    async def set_script(self, request: web.Request) -> web.Response:
        self.script = await request.json()
        return web.json_response({})

    async def seen(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "runs": self.runs,
                "records": self.records,
                "events": self.events,
                "bytes": self.bytes,
                "replays": self.replays,
                "ids": len(self.ids),
                "texts": {text: sorted(names) for text, names in self.texts.items()},
                "losses": self.losses,
            }
        )


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    sink = Sink(keep=options.keep)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post(wire.BLOCKS_PATH, sink.blocks)
    app.router.add_post("/script", sink.set_script)
    app.router.add_get("/seen", sink.seen)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", options.port)
    await site.start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
