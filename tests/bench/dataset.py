"""Events of a made-up shop, put straight into a store: tenants of unequal size, access logs, JSON app logs, stack traces.

- The same seed, number and end give the same events. Each statement makes a slice of them in the order of their time, as
  many collectors' commits would; the engine makes the rows, so that loading takes a tenth of what sending them would.
- Some events are there more than once, in parts of their own, and some are deleted: what a store looks like whose agents
  were restarted. IDs are those of files: time rises with the offset, a file ends with its day.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

SHARES = (60, 25, 10, 4, 1)
"""Of each tenant, in percent."""
DAYS = 28
SLICE = 500_000
FRESH_SLICES = 20
"""The youngest events come in small commits, of which the engine has not merged many yet."""
FRESH_ROWS = 5_000
COPIES_PER_MILLE = 20
DELETED_PER_MILLE = 1
RARE_WORD = "zebrafish"
RARE_EVERY = 200_003
DAY_US = 86_400_000_000

COLUMNS = (
    "tenant_id", "external_id", "timestamp", "observed_timestamp", "event_type", "severity", "service", "source", "path",
    "agent", "message", "attributes", "retention_days", "version", "is_deleted", "endpoint", "method", "status_code",
    "ip_address", "response_time_ms",
)  # fmt: skip

_HASH = "cityHash64({salt}, number, {seed})"


class Dataset(NamedTuple):
    tenants: Sequence[str]
    """Their IDs, the largest first; as many as there are `SHARES`."""
    rows: int
    end_us: int
    """The time of the youngest event."""
    seed: int = 1

    def statements(self, table: str) -> Iterator[str]:
        """INSERT statements in the order of time, each of at most `SLICE` rows."""
        fresh = min(FRESH_SLICES * FRESH_ROWS, self.rows // 10)
        edges = [*range(0, self.rows - fresh, SLICE), *range(self.rows - fresh, self.rows, max(1, fresh // FRESH_SLICES))]
        for first, last in zip(edges, [*edges[1:], self.rows], strict=True):
            yield self._insert(table, first, last, "1")
            again = f"{self._hash(90)} % 1000 < {COPIES_PER_MILLE}"
            gone = f"{self._hash(91)} % 1000 < {DELETED_PER_MILLE}"
            yield self._insert(table, first, last, again, version="version - 1")
            yield self._insert(table, first, last, gone, version="18446744073709551615", deleted=1)

    def _insert(self, table: str, first: int, last: int, where: str, version: str = "version", deleted: int = 0) -> str:
        chosen = ", ".join({"version": f"{version} AS v", "is_deleted": str(deleted)}.get(name, name) for name in COLUMNS)
        return f"INSERT INTO {table} ({', '.join(COLUMNS)}) SELECT {chosen} FROM ({self._rows(first, last, where)})"

    def _rows(self, first: int, last: int, where: str) -> str:
        step = DAYS * DAY_US // self.rows
        start = self.end_us - step * (self.rows - 1)
        tenants = "[" + ", ".join(f"'{tenant}'" for share, tenant in zip(SHARES, self.tenants, strict=True)
                                  for _ in range(share)) + "]"  # fmt: skip
        return f"""
WITH
    {self._hash(1)} AS dice, {self._hash(2)} AS more,
    fromUnixTimestamp64Micro(toInt64({start} + number * {step}), 'UTC') AS time,
    arrayElement({tenants}, 1 + number % 100) AS tenant,
    multiIf(dice % 100 < 55, 1, dice % 100 < 93, 2, 3) AS kind,
    intDiv(dice, 100) AS a, intDiv(dice, 100000) AS b, intDiv(more, 7) AS c, intDiv(more, 1000003) AS d,
    arrayElement(['orders', 'catalogue', 'payments', 'search', 'sessions', 'auth', 'mail', 'stock'], 1 + toUInt8(sqrt(a % 64)))
        AS service_name,
    concat(toString(11 + a % 200), '.', toString(b % 256), '.', toString(c % 40), '.', toString(1 + d % 254)) AS ip,
    if(a % 5 = 0, concat('user', toString(toUInt32(exp(c % 1000 / 110)))), '-') AS user,
    arrayElement(['GET', 'GET', 'GET', 'GET', 'GET', 'POST', 'POST', 'PUT', 'DELETE', 'HEAD'], 1 + b % 10) AS verb,
    multiIf(c % 100 < 35, concat('/static/js/', service_name, '-', toString(d % 40), '.min.js'),
            c % 100 < 60, concat('/api/v1/products/', toString(toUInt32(exp(d % 1000 / 92)))),
            c % 100 < 80, concat('/api/v1/', service_name, '/', toString(d % 100000), '/items'),
            c % 100 < 90, concat('/search?q=shoes&page=', toString(1 + d % 8)), '/checkout') AS path_asked,
    arrayElement([200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 304, 304, 301, 201, 400, 401, 403, 404, 404, 500, 502, 503],
        1 + toUInt8(b % 22)) AS status,
    arrayElement(['shop-app/7.3.1 (Android 14)', 'Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0', 'okhttp/4.12.0',
        'Mozilla/5.0 (Windows NT 10.0) Chrome/126.0', 'kube-probe/1.30'], 1 + toUInt8(sqrt(d % 25))) AS browser,
    arrayElement(['debug', 'info', 'info', 'info', 'info', 'info', 'info', 'warning', 'warning', 'error'], 1 + c % 10) AS level,
    if(number % {RARE_EVERY} = 7, ' {RARE_WORD}', '') AS rarely,
    lower(hex(cityHash64(tenant, kind, service_name, toYYYYMMDD(time), {self.seed}))) AS file
SELECT tenant AS tenant_id,
    concat(leftPad(file, 16, '0'), '-', leftPad(lower(hex(number * 211)), 12, '0'),
        '-', leftPad(lower(hex(toUInt32(dice))), 8, '0')) AS external_id,
    time AS timestamp, time + toIntervalMillisecond(40) AS observed_timestamp, 'log' AS event_type,
    multiIf(kind = 1, multiIf(status >= 500, 'error', status >= 400, 'warning', 'info'), kind = 2, level, 'error') AS severity,
    service_name AS service, arrayElement(['access', 'app', 'traces'], kind) AS source,
    concat('/var/log/', service_name, '/', source, '.log') AS path, concat('node-', toString(a % 12)) AS agent,
    multiIf(
        kind = 1, concat(ip, ' - ', user, ' [', formatDateTime(time, '%d/%b/%Y:%H:%i:%S'), ' +0000] "', verb, ' ', path_asked,
            ' HTTP/1.1" ', toString(status), ' ', toString(toUInt32(exp(d % 1000 / 80))), ' "-" "', browser, '"', rarely),
        kind = 2, concat(arrayElement([
            concat('payment ', toString(c % 1000000), ' of ', user, ' authorised in ', toString(d % 900), ' ms'),
            concat('cache miss for key session:', lower(hex(c % 4294967296))),
            concat('connection to db-', toString(d % 9), ' lost, trying again in ', toString(a % 30), ' s'),
            concat('order ', toString(c % 10000000), ' shipped to ', ip),
            concat('request ', lower(hex(more)), ' took ', toString(d % 5000), ' ms')], 1 + toUInt8(a % 5)), rarely),
        concat('Traceback (most recent call last):\n  File "/srv/', service_name, '/handlers.py", line ', toString(a % 400),
            ', in handle\n    return self.', arrayElement(['charge', 'reserve', 'notify', 'render'], 1 + b % 4),
            '(request)\n  File "/srv/', service_name, '/client.py", line ', toString(b % 900),
            ', in call\n    raise TimeoutError(peer)\nTimeoutError: db-', toString(d % 9), rarely)) AS message,
    CAST(if(kind = 2, map('region', arrayElement(['eu', 'us', 'ap'], 1 + a % 3),
        'pod', concat(service_name, '-', toString(b % 40)), 'request_id', lower(hex(more)),
        'release', concat('v', toString(3 + intDiv(number * 20, {self.rows})))),
        map('host', agent)), 'Map(LowCardinality(String), String)') AS attributes,
    toUInt16(30) AS retention_days, toUInt64(9000000000000000000 - number) AS version, 0 AS is_deleted,
    if(kind = 1, path_asked, '') AS endpoint, if(kind = 1, verb, '') AS method,
    toUInt16(if(kind = 1, status, 0)) AS status_code, if(kind = 1, ip, '') AS ip_address,
    if(kind = 1, exp(d % 1000 / 140), 0) AS response_time_ms
FROM numbers({first}, {last - first}) WHERE {where}"""

    def _hash(self, salt: int) -> str:
        return _HASH.format(salt=salt, seed=self.seed)
