"""``pulsestream-collector search`` as a person runs it: a process, a real collector, pipes, a terminal, a lost connection."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.collector import REPOSITORY, Collector
from tests.support.engine import ClickHouseFront
from tests.support.events import named
from tests.support.wait import until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
]

BATCH = "/api/v1/ingestion/events/batch"
NOW_S = int(time.time()) - 60
MANY = 2_500
"""More than two pages of a search."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseFront]:
    with ClickHouseFront(tmp_path_factory.mktemp("engine") / "data") as front:
        yield front


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory, engine: ClickHouseFront) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("collector"), store=engine.url) as running:
        yield running


@pytest.fixture(scope="module")
def key(collector: Collector) -> str:
    made = collector.new_tenant("person")
    store(
        collector, made,
        named(event_id="pay", message="payment \x1b[2Jrefused\nsecond line", severity="error", title="till", timestamp=NOW_S,
              source={"service": "shop", "endpoint": "/pay", "method": "POST"}, attributes={"region": "eu, west"}),
        named(event_id="login", message="hello", severity="info", title="login", timestamp=NOW_S + 1,
              source={"service": "auth", "endpoint": "/login", "method": "POST"}),
        named(event_id="old", message="long ago", timestamp=NOW_S - 7200),
    )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def many(collector: Collector) -> str:
    made = collector.new_tenant("many")
    store(collector, made, *(named(event_id=f"e-{n:05}", message="x" * 400, timestamp=NOW_S + n / 1000) for n in range(MANY)))
    return made


def store(collector: Collector, key: str, *events: dict[str, Any]) -> None:
    headers = {"Content-Type": "application/json"}
    body = json.dumps({"events": events}).encode()
    answer = collector.request("POST", BATCH, key=key, body=body, headers=headers)
    assert answer.body["processing_status"] == "completed", answer


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "collector", "search", *arguments]


def environment(collector: Collector, key: str, **more: str) -> dict[str, str]:
    without = {name: value for name, value in os.environ.items() if not name.startswith(("PULSESTREAM_", "NO_COLOR"))}
    return without | {"PULSESTREAM_URL": collector.url, "PULSESTREAM_API_KEY": key, **more}


def search(collector: Collector, key: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=REPOSITORY, env=environment(collector, key), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def test_the_newest_are_shown_the_oldest_of_them_first_and_nothing_is_obeyed(collector: Collector, key: str) -> None:
    done = search(collector, key, "--since", "1h")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.split("\n")
    assert re.fullmatch(r"20\S+Z ERROR    shop till: payment \\x1b\[2Jrefused", lines[0])
    assert lines[1] == "    second line"
    assert re.fullmatch(r"20\S+Z INFO     auth login: hello", lines[2])
    assert search(collector, key, "hello").stdout == lines[2] + "\n"


def test_filters_and_outputs(collector: Collector, key: str) -> None:
    asked = ("--service", "shop", "--severity", "error,critical", "--filter", "attr.region=eu, west", "--since", "1h")
    done = search(collector, key, *asked, "--output", "json")
    assert json.loads(done.stdout) == collector.search(key, event_id="pay")["events"][0]
    done = search(collector, key, *asked, "--output", "csv", "--columns", "event_id,attr.region,message")
    assert list(csv.reader(io.StringIO(done.stdout, newline=""))) == [
        ["event_id", "attr.region", "message"],
        ["pay", "eu, west", "payment \x1b[2Jrefused\nsecond line"],
    ]
    done = search(collector, key, *asked, "--columns", "severity,message")
    assert done.stdout == "error\tpayment \\x1b[2Jrefused\\nsecond line\n"


def test_the_exit_code_is_that_of_grep(collector: Collector, key: str, tmp_path: Path) -> None:
    assert search(collector, key, "nothing-like-it").returncode == 1
    for arguments, said in (
        (("--severity", "terrible"), "severity"),
        (("--filter", "colour"), "NAME=VALUE"),
        (("--columns", "servce"), "did you mean service"),
        (("--url", "http://127.0.0.1:9"), "does not answer"),
        (("--url", "nonsense"), "is no URL"),
        (("--key", "ps_00000000_wrong"), "API key"),
        (("--key-file", str(tmp_path / "none")), "cannot be read"),
        (("--follow", "--until", "1h"), "--until"),
        (("--limit", "0"), "--all"),
    ):
        done = search(collector, key, *arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert said in done.stderr, arguments


def test_a_fault_of_the_query_is_shown_where_it_is(collector: Collector, key: str) -> None:
    for arguments in ((), ("--follow",), ("--all",)):
        done = search(collector, key, "hello level:loud", *arguments)
        what, text, caret = done.stderr.splitlines()
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert "'loud' is no severity at column 13" in what
        assert text[caret.index("^") :] == "loud"


def test_a_key_comes_from_a_file(collector: Collector, key: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{key}\n")
    assert search(collector, "wrong", "hello", "--key-file", str(tmp_path / "key")).returncode == 0


def test_a_limit_goes_over_pages_and_all_is_all(collector: Collector, many: str) -> None:
    done = search(collector, many, "--limit", "2100", "--columns", "event_id")
    assert done.stdout.split() == [f"e-{n:05}" for n in range(MANY - 2100, MANY)]
    done = search(collector, many, "--all", "--columns", "event_id")
    assert done.stdout.split() == [f"e-{n:05}" for n in range(MANY)]
    assert search(collector, many, "--all", "none-of-them").returncode == 1


def test_a_reader_that_has_enough_ends_it_without_a_word(collector: Collector, many: str) -> None:
    line = f"{' '.join(command('--all', '--output', 'json'))} | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=REPOSITORY,
        env=environment(collector, many),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    assert json.loads(done.stdout.splitlines()[0])["event_id"] == "e-00000"
    assert done.stdout.splitlines()[1] == "0"


def on_a_terminal(collector: Collector, key: str, **more: str) -> str:
    ours, theirs = pty.openpty()
    try:
        env = environment(collector, key, TERM="xterm", **more)
        subprocess.run(command("--since", "1h"), cwd=REPOSITORY, env=env, stdout=theirs, timeout=60, check=True)
        return os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)


def test_colours_are_for_a_terminal(collector: Collector, key: str) -> None:
    assert "\x1b[31mERROR   \x1b[0m \x1b[36mshop\x1b[0m till: payment \\x1b[2Jrefused" in on_a_terminal(collector, key)
    assert "\x1b" not in on_a_terminal(collector, key, NO_COLOR="1")


def test_following_shows_what_was_and_what_comes_over_a_lost_connection(tmp_path: Path, engine: ClickHouseFront) -> None:
    with Collector(tmp_path, store=engine.url) as collector:
        key = collector.new_tenant(f"follower {time.monotonic_ns()}")
        store(collector, key, named(event_id="before"))
        out = tmp_path / "out"
        with (
            out.open("wb") as written,
            subprocess.Popen(
                command("--follow", "--columns", "event_id", "--since", "1h"),
                cwd=REPOSITORY, env=environment(collector, key), stdout=written, stderr=subprocess.PIPE,
            ) as process,
        ):  # fmt: skip
            until(lambda: out.read_text().split() == ["before"], "what was is shown")
            store(collector, key, named(event_id="live"))
            until(lambda: out.read_text().split() == ["before", "live"], "what comes is shown")
            collector.kill()
            collector.start()
            for n in range(3):
                store(collector, key, named(event_id=f"later-{n}"))
            until(lambda: out.read_text().split()[2:] == ["later-0", "later-1", "later-2"], "it goes on")
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=30)
        assert process.returncode == 130
        assert b"Traceback" not in stderr
