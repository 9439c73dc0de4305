"""Logs of a made-up shop: an access log in the combined format, and the same requests as JSON lines.

The same seed and size give the same bytes (JSON lines also carry the day). Every `CHUNK_LINES` lines are one pool of lines
in another order, with their own times: neither zstd nor the engine looks far enough back to see that a line came before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt

SEED = 1
CHUNK_LINES = 60_000
LINES_PER_S = 1000
DAY = "12/Oct/2026"
_TIME = "00:00:00.000"
"""Stands where the time of day goes; access logs have no fraction."""

_METHODS = ("GET",) * 16 + ("POST",) * 3 + ("PUT", "DELETE", "HEAD")
_STATUSES = (200,) * 24 + (304,) * 4 + (301, 302, 201, 204, 400, 401, 403, 404, 404, 404, 499, 500, 502, 503)
_AGENTS = (
    "shop-app/7.3.1 (Android 14)",
    "Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0) Chrome/126.0",
    "Mozilla/5.0 (iPhone; iOS 17_5) Mobile/15E148",
    "okhttp/4.12.0",
    "curl/8.8.0",
    "python-requests/2.32.3",
    "Googlebot/2.1 (+http://www.google.com/bot.html)",
    "kube-probe/1.30",
)
_REFERERS = ("-",) * 12 + ("https://shop.example/", "https://shop.example/cart", "https://search.example/?q=shoes")
_SERVICES = ("orders", "catalogue", "payments", "search", "sessions")

Positions = npt.NDArray[np.int64]


def access_log(path: Path, size_bytes: int, *, seed: int = SEED) -> Path:
    """An access log of whole lines, at least ``size_bytes`` long, at ``path``; left as it is where it is there already."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.{os.getpid()}")
        with unfinished.open("wb") as file:
            for chunk in access_lines(size_bytes, seed=seed):
                file.write(chunk)
        unfinished.rename(path)
    return path


def access_lines(size_bytes: int, *, seed: int = SEED) -> Iterator[bytes]:
    """The same in chunks of whole lines."""
    random = Random(seed)
    return _chunks([_access_line(random) for _ in range(_pool_lines(size_bytes))], size_bytes, seed, fraction=False)


def json_lines(size_bytes: int, *, day: str, seed: int = SEED) -> Iterator[bytes]:
    """JSON lines in chunks; ``day`` as 2026-10-12."""
    random = Random(seed)
    pool = [_json_line(random, day) for _ in range(_pool_lines(size_bytes))]
    return _chunks(pool, size_bytes, seed, fraction=True)


def _pool_lines(size_bytes: int) -> int:
    return min(CHUNK_LINES, size_bytes // 50 + 1)


def _access_line(random: Random) -> str:
    return (
        f"{_client(random)} - {_user(random)} [{DAY}:{_TIME[:8]} +0000] "
        f'"{random.choice(_METHODS)} {_path(random)} HTTP/1.1" {random.choice(_STATUSES)} {_size(random)} '
        f'"{random.choice(_REFERERS)}" "{_few(random, _AGENTS)}"\n'
    )


def _json_line(random: Random, day: str) -> str:
    status = random.choice(_STATUSES)
    level = "error" if status >= 500 else "warn" if status >= 400 else "info"
    return (
        f'{{"timestamp":"{day}T{_TIME}Z","level":"{level}","message":"{random.choice(_METHODS)} {_path(random)}",'
        f'"service":"{random.choice(_SERVICES)}","status":{status},"bytes":{_size(random)},'
        f'"duration_ms":{random.expovariate(0.05):.2f},"client":"{_client(random)}","user":"{_user(random)}",'
        f'"request_id":"{random.getrandbits(48):012x}"}}\n'
    )


def _client(random: Random) -> str:
    number = (random.randrange(2000) if random.random() < 0.7 else random.getrandbits(24)) * 2654435761
    return f"{11 + (number >> 24) % 200}.{(number >> 16) % 256}.{(number >> 8) % 256}.{number % 254 + 1}"


def _user(random: Random) -> str:
    return f"user{int(random.paretovariate(0.7)) % 9973}" if random.random() < 0.2 else "-"


def _path(random: Random) -> str:
    kind = random.random()
    if kind < 0.35:
        return f"/static/{random.choice(('css', 'js', 'img'))}/{random.choice(_SERVICES)}-{random.randrange(40)}.min.js"
    if kind < 0.6:
        return f"/api/v1/products/{int(random.paretovariate(0.8)) % 50_000}"
    if kind < 0.8:
        return f"/api/v1/{random.choice(_SERVICES)}/{random.randrange(100_000)}/items"
    if kind < 0.9:
        return f"/search?q={random.choice(('shoes', 'hat', 'red+coat', 'socks', 'bag'))}&page={random.randrange(1, 9)}"
    return random.choice(("/", "/cart", "/login", "/healthz", "/checkout", "/favicon.ico"))


def _size(random: Random) -> int:
    return random.choice((0, 2, 512, 1270)) if random.random() < 0.5 else int(random.lognormvariate(8, 1.5))


def _few(random: Random, values: tuple[str, ...]) -> str:
    """One of them, the first ones much more often."""
    return values[int(random.paretovariate(0.9) - 1) % len(values)]


def _chunks(pool: list[str], size_bytes: int, seed: int, *, fraction: bool) -> Iterator[bytes]:
    lines = np.array([line.encode() for line in pool], dtype=object)
    lengths = np.array([len(line) for line in lines], dtype=np.int64)
    mark = _TIME if fraction else _TIME[:8]
    times = np.array([line.index(mark) for line in pool], dtype=np.int64)
    order = np.random.default_rng(seed)
    written = count = 0
    while written < size_bytes:
        turn = order.permutation(len(lines))
        text = bytearray(b"".join(lines[turn]))
        starts = np.concatenate(([0], np.cumsum(lengths[turn])[:-1]))
        _stamp(np.frombuffer(text, dtype=np.uint8), starts + times[turn], count, fraction=fraction)
        if written + len(text) > size_bytes:
            del text[text.index(b"\n", size_bytes - written - 1) + 1 :]
        yield bytes(text)
        written += len(text)
        count += len(lines)


def _stamp(text: npt.NDArray[np.uint8], at: Positions, first: int, *, fraction: bool) -> None:
    """Write the time of day of line number ``first`` and those after it to the places ``at``."""
    number = np.arange(first, first + len(at), dtype=np.int64)
    second = number // LINES_PER_S % 86_400
    fields = [(0, second // 3600, 2), (3, second // 60 % 60, 2), (6, second % 60, 2)]
    if fraction:
        fields.append((9, number * 1000 // LINES_PER_S % 1000, 3))
    for place, value, width in fields:
        for digit in range(width):
            text[at + place + digit] = 48 + value // 10 ** (width - 1 - digit) % 10
