"""Each benchmark runs, on tiny input, and says all it promises. No figure is held against anything here."""

from __future__ import annotations

import importlib.util
import json
import re
import zlib
from pathlib import Path

import pytest

from agent.codec import compress
from tests.bench import __main__ as bench
from tests.bench.accesslog import access_lines, access_log, json_lines
from tests.bench.agent import ARCHIVES, SHAPES
from tests.bench.measure import MB, percentiles_ms
from tests.bench.weblog import web_log

pytestmark = pytest.mark.timeout(300)

MACHINE = {"commit", "python", "cpus", "cpu_model", "load_average"}
THROUGHPUT = {"input_mb", "events", "events_per_s", "mb_per_s", "wall_s", "cpu_s", "peak_memory_mb"}
SHIP = THROUGHPUT | {
    "compression_ratio", "mb_per_cpu_s", "mb_per_cpu_s_after_start", "start_cpu_s", "compress_alone_cpu_s",
    "times_compress_alone", "times_compress_alone_after_start",
}  # fmt: skip
INGEST = THROUGHPUT | {
    "requests", "held_back", "p50_ms", "p99_ms", "cpu_us_per_event", "cpu_us_per_event_merged", "start_memory_mb",
    "disk_bytes_per_event", "parts",
}  # fmt: skip
API = THROUGHPUT | {
    "requests",
    "connections",
    "held_back",
    "p50_ms",
    "p99_ms",
    "cpu_us_per_event",
    "events_per_cpu_s",
    "times_json_loads",
}
ASKED = {
    "api_p50_ms", "api_p95_ms", "sql_p50_ms", "sql_p95_ms", "over_ms", "times", "sql_rows_read", "growth",
}  # fmt: skip
COST = {"insert_us", "merge_us", "word_index_us", "bytes"}
INDEXES = ("timestamp_minmax", "id_bloom", "attribute_items", "message_words", "title_words")
QUESTIONS = (
    "newest_100", "newest_100_of_a_service", "rare_word", "common_word", "phrase", "regex", "attribute", "by_id",
    "context", "histogram_24h", "facets_24h", "count_with_three_filters",
)  # fmt: skip
IDLE = {"files", "descriptors", "watched_s", "cpu_percent", "memory_mb", "peak_memory_mb"}
VERIFY = {"input_mb", "events", "cpu_s", "collector_cpu_s", "cpu_s_per_million", "collector_cpu_s_per_million"}
LINE = {"events", "p50_ms", "p99_ms", "peak_memory_mb"}
EXPECTED = {
    "agent": {
        "agent.ship": SHIP,
        "agent.line": LINE,
        "agent.idle": IDLE,
        "agent.many": IDLE,
        "agent.archives": {"input_mb", *ARCHIVES},
        "agent.shape": {"input_mb", "raw", *SHAPES},
    },
    "api": {
        "api.batch": API,
        "api.single": API,
        "api.paced": {"events", "requests_per_s", "p50_ms", "p99_ms", "cpu_s", "cpu_percent", "peak_memory_mb"},
        "api.flood": {
            "quiet_requests_per_s",
            "flood_events_per_s",
            "alone_p50_ms",
            "alone_p99_ms",
            "beside_p50_ms",
            "beside_p99_ms",
            "p99_ratio",
            "peak_memory_mb",
        },
        "api.batch_embedded": API,
    },
    "collector": {
        "collector.raw": INGEST,
        "collector.json": INGEST,
        "collector.line": LINE | {"agent_peak_memory_mb"},
        "collector.steady": {
            "events",
            "lines_per_s",
            "marked",
            "p50_ms",
            "p99_ms",
            "agent_cpu_us_per_event",
            "collector_cpu_us_per_event",
            "agent_peak_memory_mb",
            "collector_peak_memory_mb",
        },
    },
    "search": {
        "search.load": {
            "events",
            "rows",
            "parts",
            "bytes_per_row",
            "times_smaller_than_its_text",
            "index_cpu_us_per_row",
            "cpu_us_per_row",
        },
        **{f"search.{name}": ASKED for name in QUESTIONS},
    },
    "store": {
        "store.whole": {"events", *COST},
        **{f"store.{name}": COST for name in (*INDEXES, "observed_timestamp")},
        **{
            f"store.{log}": {
                "events",
                "text_bytes",
                "message_bytes",
                "external_id_bytes",
                "other_bytes",
                "word_index_bytes",
                "other_index_bytes",
                "times_smaller",
                "times_smaller_without_words",
                *COST,
            }
            for log in ("common_raw", "common_parsed", "combined_raw", "combined_parsed")
        },
    },
    "verify": {"verify.all_there": VERIFY, "verify.all_missing": VERIFY},
}
BLOCK_BYTES = 1 << 20


@pytest.mark.parametrize(
    "name",
    ["agent", *(pytest.param(name, marks=pytest.mark.engine) for name in ("api", "collector", "search", "store", "verify"))],
)
def test_a_benchmark_says_all_it_promises(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if name != "agent" and importlib.util.find_spec("chdb") is None:
        pytest.skip("the engine (chdb) is not installed")
    assert bench.main([name, "--quick", "--json", "--var", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert answer.keys() - {"benchmarks"} == MACHINE
    assert {name: set(result) for name, result in answer["benchmarks"].items()} == EXPECTED[name]
    assert printed.err == ""


def test_the_access_log_looks_like_one() -> None:
    log = b"".join(access_lines(4 * MB))
    lines = log.decode().splitlines()
    pattern = re.compile(
        r'[\d.]{7,15} - \S+ \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\] "[A-Z]+ \S+ HTTP/1.1" \d{3} \d+ "\S+" ".+"'
    )
    assert [line for line in lines if not pattern.fullmatch(line)] == []
    assert 130 <= len(log) / len(lines) <= 150
    packed = sum(len(compress(log[at : at + BLOCK_BYTES])) for at in range(0, len(log), BLOCK_BYTES))
    assert 5 <= len(log) / packed <= 8
    times = [re.findall(r":(\d\d:\d\d:\d\d) ", line)[0] for line in lines]
    assert times == sorted(times)


def test_a_web_log_has_the_same_visitors_pages_and_browsers_again_and_again() -> None:
    lines = list(web_log(60_000, combined=True))
    pattern = re.compile(
        r'[\d.]{7,15} - - \[(1\d/Oct/2026:\d\d:\d\d:\d\d) \+0000\] "([A-Z]+ \S+ HTTP/[12].[01])" (\d{3}) \d+ "(\S+)" "([^"]+)"'
    )
    found = [pattern.fullmatch(line) for line in lines]
    assert [line for line, match in zip(lines, found, strict=True) if not match] == []
    times, requests, statuses, referers, browsers = zip(*(match.groups() for match in found if match), strict=True)
    assert list(times) == sorted(times)
    assert 200 <= sum(map(len, lines)) / len(lines) <= 260
    assert 100 < len(set(browsers)) < 400
    assert 5_000 < len(set(requests)) < 30_000
    assert 1_000 < len({line.split(" ")[0] for line in lines}) < 10_000
    assert 0.8 < statuses.count("200") / len(lines) < 0.95
    assert 0.1 < referers.count("-") / len(lines) < 0.4
    common = [line.rsplit(' "', 2)[0] for line in lines]
    assert list(web_log(60_000, combined=False)) == common
    assert list(web_log(1000, combined=False, seed=2)) != common[:1000]
    # As logs of real servers do: those of NASA and ClarkNet, of the nineties, become 8 to 12 times smaller.
    text = "\n".join(common).encode()
    assert 8 <= len(text) / len(zlib.compress(text)) <= 12


def test_the_same_seed_gives_the_same_log_and_another_one_another() -> None:
    log = b"".join(access_lines(2 * MB))
    assert b"".join(access_lines(2 * MB)) == log
    assert b"".join(access_lines(2 * MB, seed=2)) != log


def test_a_log_has_its_size_and_whole_lines(tmp_path: Path) -> None:
    path = access_log(tmp_path / "access.log", 3 * MB)
    content = path.read_bytes()
    assert 3 * MB <= len(content) < 3 * MB + 1000
    assert content.endswith(b"\n")


def test_a_log_that_is_there_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(b"made before\n")
    assert access_log(path, MB).read_bytes() == b"made before\n"


def test_json_lines_are_objects_in_the_order_of_their_times() -> None:
    lines = [json.loads(line) for line in b"".join(json_lines(MB, day="2026-01-31")).splitlines()]
    times = [line["timestamp"] for line in lines]
    assert times[0].startswith("2026-01-31T00:00:00.000")
    assert times == sorted(times)


def test_percentiles_are_values_that_occurred() -> None:
    assert percentiles_ms([n / 1000 for n in range(1, 101)]) == {"p50_ms": 50, "p99_ms": 99}
    assert percentiles_ms([0.5]) == {"p50_ms": 500, "p99_ms": 500}
