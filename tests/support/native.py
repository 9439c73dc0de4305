"""Blocks in the engine's own format, read by the client's library: another reading of what `collector.store.native` writes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

from clickhouse_connect.driver.ctypes import RespBuffCls
from clickhouse_connect.driver.query import QueryContext
from clickhouse_connect.driver.transform import NativeTransform

_EPOCH = datetime(1970, 1, 1)


def rows_of(blocks: Iterable[bytes]) -> list[dict[str, Any]]:
    """The rows of several blocks, by name of column; times in µs since 1970."""
    return [row for block in blocks for row in _rows(block)]


def _rows(block: bytes) -> list[dict[str, Any]]:
    source = RespBuffCls(SimpleNamespace(gen=iter([block]), close=lambda: None))
    read = NativeTransform.parse_response(source, QueryContext())
    return [dict(zip(read.column_names, map(_value, row), strict=True)) for row in read.result_rows]


def _value(value: Any) -> Any:
    return (value - _EPOCH) // timedelta(microseconds=1) if isinstance(value, datetime) else value
