"""Records: what was read of a file, or lost of it, goes into the spool together with the file's new state.

Promises:
- One append moves the data and the offset; nothing else moves an offset.
- Losses go the way of the data: through the spool, synced at once, since nobody could count them again.
- The end of the agent may come before the end of a line. What there is of it, and of an event of several lines, is shipped
  then, labelled `wire.PARTIAL_LABEL`, and the offset stays before it. Should it be the same when it is read again, its ID is,
  too. Should it have gone on, a record of kind `wire.COMPLETED` goes in front of the whole event: the collector deletes what
  the whole replaces, and search shows one event. (Without the state nobody knows of the half, and both are shown.)
- A full spool, or a disk that takes nothing, changes nothing: it is asked again later. Where the configuration prefers
  fresh lines, what was held longest is given up instead, and told.

Owned by the reader thread.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

import msgspec

from agent import crash, timeformats, wire
from agent.codec import compress
from agent.config import Config, Source
from agent.errors import StorageFull
from agent.files import identity
from agent.files.contents import Lost
from agent.files.identity import BODY_AT, FileState
from agent.files.tail import Tail
from agent.ledger import Ledger
from agent.logs import REPEAT_S, Fault
from agent.spool.segment import Checkpoint, SpoolHead, encode_checkpoint, head_records, merge
from agent.spool.spool import Spool, loss_record
from agent.text import packing, pathlabels
from agent.text.blocks import invalid_lines
from agent.text.labels import Labels
from agent.text.packing import Shaped
from agent.text.pathlabels import PathLabels

log = logging.getLogger("agent.reader")

STORAGE_RETRY_S = 1.0
"""A disk that takes nothing is asked again this often, with one record: reading and compressing for nothing costs CPU."""
TOLD_BYTES = 3 << 20
TOLD_AFTER_S = 0.02
"""While there is much to read the shipper is told once for so many bytes, or after so long: about a request's worth, and a
quarter of the shipper's CPU."""


class Recorder:
    """Owns the way into the spool. ``states``: of all contents; ``on_append`` tells the shipper that there is something new."""

    def __init__(
        self,
        config: Config,
        spool: Spool,
        states: dict[str, FileState],
        *,
        scope: str,
        agent: str,
        ledger: Ledger,
        on_append: Callable[[], None],
    ) -> None:
        self._spool = spool
        self._states = states
        self._scope = scope
        self._agent = agent
        self._ledger = ledger
        self._on_append = on_append
        self._sources = {source.name: source for source in config.sources}
        self._paths = {source.name: PathLabels(source.path_labels) for source in config.sources}
        self._labels = {source.name: _labels_of(source, self._paths[source.name].most) for source in config.sources}
        self._drops_oldest = config.spool.policy == "drop_oldest"
        self._boot = os.urandom(4).hex()
        self._records = 0
        self._untold_bytes = 0
        self._told_s = 0.0
        self._storage = Fault(log, "writing to the spool")
        self._full_said_s = float("-inf")
        self.storage_retry_s = 0.0
        self.blocked = False
        """The spool is full, or its disk takes nothing."""
        self.told_sizes = {origin: state.size for origin, state in spool.recovery.states.items()}
        """Origin -> how far its file reached, as the spool knows."""
        self.losses: list[wire.Loss] = []
        """Found, and not in the spool yet."""

    # Room --------------------------------------------------------------------------------------------------------------

    def is_ready(self, length: int, now_s: float) -> bool:
        """Whether a record of so many bytes can be appended now; notes it where not."""
        if not self._has_room(length):
            if now_s - self._full_said_s >= REPEAT_S:
                log.warning("the spool is full (%s): reading waits for acks", self._spool.full())
                self._full_said_s = now_s
            self.blocked = True
            return False
        self.blocked = now_s < self.storage_retry_s
        return not self.blocked

    def refused(self, error: StorageFull, now_s: float) -> bool:
        """The disk has no room for a record. Whether there is some now, by giving up what was held longest."""
        if self._gives_up():
            return True
        self._storage.seen(f"{error}; reading waits, the sources hold the data", now_s)
        self.storage_retry_s = now_s + STORAGE_RETRY_S
        self.blocked = True
        return False

    def _has_room(self, length: int) -> bool:
        while not self._spool.room(length):
            if not self._gives_up():
                return False
        return True

    def _gives_up(self) -> bool:
        """Where that is wanted, make room by giving up a segment. Whether there was one."""
        losses = self._spool.drop_oldest(self._loss_record) if self._drops_oldest else ()
        for loss in losses:
            log.error(
                "%s: %d bytes (%d events) lost from byte %d on: %s; raise spool.max_bytes, or choose spool.policy block",
                loss.path, loss.lost_bytes, loss.events, loss.offset, loss.reason,
            )  # fmt: skip
            self._ledger.lost(loss.reason, loss.lost_bytes, loss.path)
        if losses:
            self._on_append()
        return bool(losses)

    # Data --------------------------------------------------------------------------------------------------------------

    def append(
        self,
        tail: Tail,
        state: FileState,
        window: memoryview,
        window_at: int,
        begin: int,
        events: int,
        *,
        partial: bool,
        shaped: Shaped | None,
        to: int | None = None,
    ) -> None:
        """Append the block that ends ``window``, and move the file's state behind it.

        Args:
            window: bytes of the file from ``window_at`` on, as `identity.advance` wants them.
            begin: where the block begins; between the state's offset and there is nothing but NULs.
            shaped: what is sent instead of the block as it lies there.
            to: where the state moves instead of behind the window: the line that begins there is longer.

        Raises StorageFull, StorageFailed.
        """
        offset, start, to = state.offset, begin - window_at, window_at + len(window) if to is None else to
        change = msgspec.structs.replace(state, marks={}, recent=[])
        if begin > offset:
            identity.leap(change, begin)
        identity.advance(change, window, window_at, to, tail.mark)
        if begin < BODY_AT <= to or not (to < BODY_AT or state.body_id):  # known from now on, also if nothing is ever appended
            change.body_id = self._body_id(tail, state, window, window_at)
        reproducible = (
            not partial
            and identity.can_be_made_again(state.tag if begin < BODY_AT else identity.body_tag(state.tag))
            and (shaped is None or shaped.reproducible)
        )
        replay = begin < state.replay_until or bool(state.halves)
        flags = wire.REPLAY * replay | wire.REPRODUCIBLE * reproducible | wire.PARTIAL * partial
        header = self._header(tail, change, (offset, to), begin, len(window) - start, events, flags)
        if shaped is not None:
            header = shaped.header(header)
        payload = window[start:] if shaped is None else shaped.payload
        completed = self._completed(header, bytes(payload), change) if state.halves else b""
        header = msgspec.structs.replace(header, checkpoint=encode_checkpoint(Checkpoint(change, tail.replaces)))
        # Which tag a file's head goes with is on disk with its first record: what was shipped under it keeps it.
        names = begin < BODY_AT and not state.recent
        # In one append: where there is no room for the whole, its half stays.
        self._spool.append(completed + wire.encode_record(header, compress(payload)), waits=names or not reproducible)
        self._storage.over()
        tail.replaces = ""
        tail.state = self._states[state.origin] = merge(state, change)
        self.told_sizes[state.origin] = change.size
        if tail.state.lost:
            self.take_back(tail.state)
        crash.point("append.applied")
        if not reproducible:
            self._spool.sync()
        self._ledger.read(events, to - begin)
        if invalid := invalid_lines(window[start:] if shaped is None else shaped.data):
            self._ledger.add("invalid_utf8", invalid)
        if shaped is not None and shaped.cut_events:
            self._ledger.add("truncated_events", shaped.cut_events)
            self._ledger.add("truncated_bytes", shaped.cut_bytes)
        if begin > offset:
            self._passed_over(tail, offset, begin - offset)
        self._untold_bytes += to - begin
        if self._untold_bytes >= TOLD_BYTES or time.monotonic() - self._told_s >= TOLD_AFTER_S:
            self.tell()

    def _body_id(self, tail: Tail, state: FileState, window: memoryview, window_at: int) -> str:
        """Of a file that was shorter when it began; the window may begin behind a hole that reaches over `BODY_AT`."""
        body = tail.front(BODY_AT) if window_at else bytes(window[:BODY_AT])
        if len(body) < BODY_AT:
            raise OSError(errno.EAGAIN, "it was cut back while it was read")
        return identity.file_id(self._scope, tail.source, body, identity.body_tag(state.tag))

    def part(
        self, tail: Tail, state: FileState, window: memoryview, window_at: int, events: int, *, shaped: Shaped | None
    ) -> None:
        """The end comes: append what there is of events that may go on, from the state's offset to the end of ``window``, and
        leave the offset where it is. Raises StorageFull, StorageFailed."""
        offset, start, to = state.offset, state.offset - window_at, window_at + len(window)
        header = self._header(tail, state, (offset, offset), offset, len(window) - start, events, wire.PARTIAL | wire.REPLAY)
        if len(header.labels) < wire.MAX_LABELS:
            header = msgspec.structs.replace(header, labels={**header.labels, wire.PARTIAL_LABEL: "true"})
        if shaped is not None:
            header = shaped.header(header)
        payload = window[start:] if shaped is None else shaped.payload
        ids = list(_ids(header, bytes(payload)))[: wire.MAX_COMPLETED]
        halves = [*(half for half in state.halves if half not in ids), *ids][-wire.MAX_COMPLETED :]
        change = msgspec.structs.replace(state, halves=halves, half_to=to)
        checkpoint = encode_checkpoint(Checkpoint(msgspec.structs.replace(change, marks={}, recent=[]), tail.replaces))
        header = msgspec.structs.replace(header, checkpoint=checkpoint)
        self._spool.append(wire.encode_record(header, compress(payload)), waits=True)
        tail.replaces = ""
        tail.state = self._states[state.origin] = change
        self.told_sizes[state.origin] = change.size
        self._spool.sync()
        self._untold_bytes += len(window) - start

    def _completed(self, header: wire.Header, payload: bytes, change: FileState) -> bytes:
        """Events were shipped before their ends had come: the record that says which of them this one replaces."""
        whole = set(_ids(header, payload))
        passed = [half for half in change.halves if _offset_of(half) < header.source_to]
        change.halves = [half for half in change.halves if half not in passed]
        gone = tuple(half for half in passed if half not in whole)
        if not gone:
            return b""
        raw = wire.encode_completed(gone)
        said = wire.Header(
            wire.COMPLETED, self._next_id(), agent=self._agent, scope=self._scope, source=header.source, service=header.service,
            path=header.path, file_id=header.file_id, origin=header.origin, source_from=header.source_from,
            source_to=header.source_to, raw_bytes=len(raw), observed_ns=header.observed_ns,
        )  # fmt: skip
        return wire.encode_record(said, compress(raw))

    def _header(
        self, tail: Tail, state: FileState, place: tuple[int, int], begin: int, raw_bytes: int, events: int, flags: int
    ) -> wire.Header:
        source = self._sources[tail.source]
        path = self._paths[source.name].of(tail.name, tail.real_name) if source.path_labels else pathlabels.NOTHING
        return wire.Header(
            wire.DATA,
            self._next_id(),
            agent=self._agent,
            scope=self._scope,
            source=tail.source,
            path=tail.name,
            file_id=state.head_id if begin < BODY_AT else state.body_id,
            origin=state.origin,
            base_offset=begin,
            source_from=place[0],
            source_to=place[1],
            raw_bytes=raw_bytes,
            events=events,
            observed_ns=time.time_ns(),
            flags=flags,
            **said_of(source, path, self._labels[source.name]),
        )

    def _passed_over(self, tail: Tail, at: int, count: int) -> None:
        self._ledger.add("nul_gap_bytes", count)
        text = (
            "%s: %d NUL bytes from byte %d on are no lines and were passed over: a hole that a truncation or a power cut left"
        )
        log.log(logging.DEBUG if tail.gap_said else logging.WARNING, text, tail.name, count, at)
        tail.gap_said = True

    def tell(self) -> None:
        """Tell the shipper that there is something new, if there is."""
        if self._untold_bytes:
            self._untold_bytes, self._told_s = 0, time.monotonic()
            self._on_append()

    def _next_id(self) -> str:
        self._records += 1
        return f"{self._boot}{self._records:08x}"

    # Losses ------------------------------------------------------------------------------------------------------------

    def lose(self, lost: Collection[Lost], told: Callable[[], None]) -> None:
        """Tell of losses, with those that could not be told before. ``told`` is called once they are in the spool."""
        now_ns = time.time_ns()
        known = {loss.loss_id for loss in self.losses}
        found = (
            wire.Loss(
                one.loss_id,
                one.state.path,
                one.state.source,
                one.reason,
                one.lost_bytes,
                not one.exact,
                one.at,
                one.state.head_id,
                now_ns,
            )
            for one in lost
        )
        losses = [loss for loss in found if loss.loss_id not in known]
        for loss in losses:
            least = "at least " * loss.at_least
            log.error("%s: %s%d bytes lost from byte %d on: %s", loss.path, least, loss.lost_bytes, loss.offset, loss.reason)
            self._ledger.lost(loss.reason, loss.lost_bytes, loss.path)
        self.losses += losses
        if not self.losses:
            return
        crash.point("loss.before")
        gone = {one.state.origin: one.state for one in lost if one.state.lost}
        note = head_records(SpoolHead(self._scope, states=list(gone.values()))) if gone else ()
        try:
            # In one append with what would be taken back, should it come back.
            self._spool.append(b"".join((self._loss_record(tuple(self.losses)), *note)), rolls=False, waits=True)
        except StorageFull:
            return  # the next walk tells; should the agent end before, the next start finds the loss again
        crash.point("loss.appended")
        self._spool.sync()
        self.losses.clear()
        told()
        crash.point("loss.synced")
        self._on_append()

    def take_back(self, state: FileState) -> None:
        """What was told lost of a file that has come back is not lost any more, as soon as reading has come there: what is not
        read of it yet would be told anew. Raises StorageFailed."""
        back = [lost for lost in state.lost if lost.at < state.offset]
        losses = tuple(
            wire.Loss(one.loss_id, state.path, state.source, one.reason, 0, False, one.at, state.head_id, one.time_ns, 0, True)
            for one in back
        )
        if not losses:
            return
        try:
            self._spool.append(self._loss_record(losses), rolls=False, waits=True)
        except StorageFull:
            return  # the next record of the file says it, or the next start
        crash.point("loss.back")
        state.lost = [lost for lost in state.lost if lost not in back]
        for lost in back:
            log.info("%s: %d bytes from byte %d on that were told lost came back", state.path, lost.lost_bytes, lost.at)
            self._ledger.add("recovered_bytes", lost.lost_bytes)
        self._on_append()

    def _loss_record(self, losses: tuple[wire.Loss, ...]) -> bytes:
        name, now_ns = self._next_id(), time.time_ns()
        return loss_record(losses, record_id=name, agent=self._agent, scope=self._scope, observed_ns=now_ns)


def _ids(header: wire.Header, payload: bytes) -> Iterator[str]:
    for at, event in packing.events_of(header, payload):
        yield wire.event_id(header.file_id, at, event)


def _offset_of(external_id: str) -> int:
    return int(external_id.split("-")[1], 16)


def said_of(source: Source, path: pathlabels.Said = pathlabels.NOTHING, labels: Labels | None = None) -> dict[str, Any]:
    """What every record of a file says of where it is from, by the names of `wire.Header`.

    Args:
        path: what the file's path says.
        labels: where the source's are kept.
    """
    now = (labels or _labels_of(source, len(path.labels))).now()
    return {
        "service": path.service or source.service or source.name,
        "format": source.format,
        "labels": {**now, **path.labels, **source.labels} if path.labels else now,
        "fields": _fields_of(source),
    }


def _labels_of(source: Source, from_path: int) -> Labels:
    return Labels(source.labels, source.labels_file, room=wire.MAX_LABELS - from_path)


def _fields_of(source: Source) -> wire.Fields:
    names = source.fields
    return wire.Fields(
        names.time,
        names.level,
        names.message,
        source.pattern,
        source.time_format.removeprefix(timeformats.AUTO),
        source.time_zone,
    )
