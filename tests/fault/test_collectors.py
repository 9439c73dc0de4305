"""Ways to a collector: several of them, TLS and certificates, a proxy, a key that is changed, a limit of bytes."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.shipping import endpoints, retry, ship
from tests.support.agent import REPOSITORY, AgentProcess, App, arrived, exactly_once
from tests.support.certificates import Authority
from tests.support.shipping import each_once, quick, ship_until
from tests.support.sink import SinkProcess
from tests.support.wait import until

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl command to make certificates")
LINES = [b"line %d" % n for n in range(3)]


@pytest.fixture
def nobody() -> str:
    """A URL at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def test_the_next_collector_gets_what_the_first_does_not_take_until_that_is_back(
    tmp_path: Path, logs: Path, sink: SinkProcess
) -> None:
    first = SinkProcess()
    first.start()
    agent = AgentProcess(tmp_path / "agent", url=first.url, include=[logs / "*.log"])
    agent.configure(collector={"urls": [sink.url]})
    app = App(logs / "app.log")
    try:
        agent.start()
        arrived(first, app.write(3), told=agent)
        first.stop()
        exactly_once(arrived(sink, app.write(3), told=agent), app.lines[3:])
        first.start()

        def returned() -> bool:
            app.write(1)
            return bool(first.seen().texts)

        until(returned, "it returns to the first", told=agent.log)
        agent.logged("answers again")

        def complete() -> bool:
            return set(app.lines[3:]) <= first.seen().texts.keys() | sink.seen().texts.keys()

        until(complete, "each line has arrived at one of them", told=agent.log)
        agent.settle()
        ids: dict[str, set[str]] = {}
        for seen in (first.seen(), sink.seen()):
            assert seen.losses == []
            for text, names in seen.texts.items():
                ids.setdefault(text, set()).update(names)
        assert ids.keys() == set(app.lines[3:]), "the first has forgotten the first three: it is another process"
        assert {text: names for text, names in ids.items() if len(names) != 1} == {}, "one event, wherever it was sent"
    finally:
        agent.kill()
        first.stop()


@pytest.mark.parametrize(
    "answer",
    [{"status": 503}, {"status": 404}, {"status": 502}, {"type": "text/html", "body": "no"}],
    ids=["503", "404", "502", "html"],
)
def test_a_collector_that_answers_but_does_not_take_anything_is_left_for_the_next(
    tmp_path: Path, sink: SinkProcess, monkeypatch: pytest.MonkeyPatch, answer: dict[str, object]
) -> None:
    quick(monkeypatch)
    with SinkProcess() as first:
        first.rules(answer)
        ship_until(tmp_path, first.url, lambda: sink.seen().events == 3, "the second has all", lines=LINES, urls=(sink.url,))
        assert first.seen().runs >= 1
    each_once(sink.seen(), LINES)


def test_too_many_requests_is_no_reason_to_ask_another(
    tmp_path: Path, sink: SinkProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is the tenant's, not the collector's."""
    quick(monkeypatch)
    with SinkProcess() as first:
        first.script(*[{"status": 429, "headers": {"Retry-After": "0"}}] * 3)
        ship_until(tmp_path, first.url, lambda: first.seen().events == 3, "the first has all", lines=LINES, urls=(sink.url,))
        each_once(first.seen(), LINES)
    assert sink.seen().runs == 0


def test_when_all_collectors_are_away_the_first_that_is_back_gets_everything(
    tmp_path: Path, sink: SinkProcess, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    monkeypatch.setattr(endpoints, "FIRST_AWAY_S", 0.05)
    sink.script(*[{"status": 503}] * 4)
    ship_until(tmp_path, nobody, lambda: sink.seen().events == 3, "one is back", lines=LINES, urls=(sink.url,))
    each_once(sink.seen(), LINES)


def test_a_name_that_can_be_resolved_again_is_used_again(
    tmp_path: Path, sink: SinkProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    resolve, failures = socket.getaddrinfo, iter([socket.gaierror(socket.EAI_AGAIN, "try again")] * 3)

    def resolver(host: str, *more: Any, **named: Any) -> Any:
        if host != "collector.invalid":
            return resolve(host, *more, **named)
        if error := next(failures, None):
            raise error
        return resolve("127.0.0.1", *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    url = f"http://collector.invalid:{sink.port}"
    ledger = ship_until(tmp_path, url, lambda: sink.seen().events == 3, "all has arrived", lines=LINES, in_flight=1)
    assert next(failures, None) is None
    each_once(sink.seen(), LINES)
    assert "quarantined_events" not in ledger.counts()


def test_a_name_that_cannot_be_resolved_costs_nothing(agent: AgentProcess, sink: SinkProcess, logs: Path) -> None:
    agent.configure(collector={"url": "http://collector.invalid:8080"})
    app = App(logs / "app.log")
    app.write(3)
    agent.start()
    agent.logged("collector.invalid")
    assert agent.status()["counts"].get("quarantined_events", 0) == 0
    agent.stop()
    agent.configure(collector={"url": sink.url})
    agent.start()
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)


@needs_openssl
def test_a_collector_with_a_certificate_of_the_own_authority(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    with SinkProcess(tls=authority.issue("server")) as sink:
        ship_until(
            tmp_path, sink.tls_url, lambda: sink.seen().events == 3, "all has arrived", lines=LINES, ca_file=str(authority.ca)
        )
        each_once(sink.seen(), LINES)


@needs_openssl
def test_a_collector_with_a_certificate_of_an_authority_that_the_machine_trusts(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    with SinkProcess(tls=authority.issue("server")) as sink:
        ship_until(tmp_path, sink.tls_url, lambda: sink.seen().events == 3, "all has arrived", lines=LINES)
        each_once(sink.seen(), LINES)


@needs_openssl
def test_an_agent_that_speaks_plain_http_reads_no_authorities(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    look = (
        "import gc, os, ssl, agent.service; made = [c for c in gc.get_objects() if isinstance(c, ssl.SSLContext)];"
        "print(len(made) > 0, sum(len(c.get_ca_certs()) for c in made), os.environ['SSL_CERT_FILE'])"
    )
    said = subprocess.run([sys.executable, "-c", look], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert said.stdout.split() == ["True", "0", str(authority.ca)]


@needs_openssl
@pytest.mark.parametrize("wrong", ["authority", "host"])
def test_tls_with_a_wrong_certificate(
    agent: AgentProcess, logs: Path, authority: Authority, tmp_path: Path, wrong: str
) -> None:
    """Nothing is sent, the reason is said, and with the right one all goes on."""
    server = (
        Authority(tmp_path / "other").issue("server")
        if wrong == "authority"
        else authority.issue("elsewhere", host="DNS:elsewhere.example")
    )
    app = App(logs / "app.log")
    app.write(3)
    with SinkProcess(tls=server) as bad:
        agent.configure(collector={"url": bad.tls_url, "ca_file": str(authority.ca)})
        agent.start()
        agent.logged("certificate verify failed")
        assert bad.seen().runs == 0
        agent.stop()
    with SinkProcess(tls=authority.issue("server")) as good:
        agent.configure(collector={"url": good.tls_url})
        agent.start()
        exactly_once(arrived(good, app.lines, told=agent), app.lines)


@needs_openssl
def test_a_collector_that_asks_for_a_certificate_gets_the_agents(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    cert, key = authority.issue("agent")
    with SinkProcess(tls=authority.issue("server"), clients=authority.ca) as sink:
        ship_until(
            tmp_path, sink.tls_url, lambda: sink.seen().events == 3, "all has arrived", lines=LINES,
            ca_file=str(authority.ca), cert_file=str(cert), key_file=str(key),
        )  # fmt: skip
        ledger = ship_until(
            tmp_path / "without", sink.tls_url, lambda: True, "it has been started", lines=LINES, ca_file=str(authority.ca)
        )
        assert "acked_events" not in ledger.counts()
        each_once(sink.seen(), LINES)


@needs_openssl
def test_a_certificate_that_cannot_be_used_is_refused_at_the_start(agent: AgentProcess, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no certificate")
    agent.configure(collector={"ca_file": str(tmp_path / "nowhere.pem"), "cert_file": str(nonsense)})
    said = agent.command("check")
    assert said.returncode == 2
    assert f"collector.ca_file: {tmp_path}/nowhere.pem: No such file or directory; it must be" in said.stderr
    assert f"collector.cert_file: {nonsense}: not usable; they must be a certificate and its key" in said.stderr


def test_a_proxy_of_the_configuration_is_used(tmp_path: Path, sink: SinkProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name can only be reached through it."""
    quick(monkeypatch)
    ship_until(
        tmp_path, "http://collector.invalid", lambda: sink.seen().events == 3, "all has arrived", lines=LINES, proxy=sink.url
    )
    each_once(sink.seen(), LINES)


def test_a_proxy_of_the_environment_is_used_unless_it_is_refused(
    tmp_path: Path, sink: SinkProcess, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", sink.url)
    ship_until(tmp_path / "1", "http://collector.invalid", lambda: sink.seen().events == 3, "through it", lines=LINES)
    monkeypatch.setenv("http_proxy", nobody)
    ship_until(tmp_path / "2", sink.url, lambda: sink.seen().events == 6, "past it", lines=LINES, proxy="direct")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    ship_until(tmp_path / "3", sink.url, lambda: sink.seen().events == 9, "it is not for this host", lines=LINES)
    each_once(sink.seen(), LINES)


def test_a_key_is_read_again_when_its_file_changes(agent: AgentProcess, sink: SinkProcess, logs: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("old\n")
    agent.configure(collector={"api_key": "", "api_key_file": str(key)})
    app = App(logs / "app.log")
    agent.start()
    arrived(sink, app.write(2), told=agent)
    assert "old" in sink.seen().keys
    sink.rules({"status": 401})
    app.write(2)
    agent.logged("check api_key")
    key.write_text("")
    agent.logged("the old key stays")
    sink.rules()
    (tmp_path / "key.new").write_text("new\n")
    (tmp_path / "key.new").replace(key)
    exactly_once(arrived(sink, app.lines, told=agent), app.lines)
    assert "new" in sink.seen().keys


@pytest.mark.parametrize("mended", ["key", "collector"])
def test_a_refused_key_is_tried_again_at_once_when_it_was_changed_or_another_request_passes(
    tmp_path: Path, sink: SinkProcess, monkeypatch: pytest.MonkeyPatch, mended: str
) -> None:
    """Left alone it would be tried again in an hour."""
    quick(monkeypatch)
    monkeypatch.setattr(retry, "STOPPED_RETRY_S", 3600.0)
    monkeypatch.setattr(ship, "KEY_LOOK_S", 0.02)
    key = tmp_path / "key"
    key.write_text("old")
    in_flight = 1 if mended == "key" else 2
    sink.script({"status": 401})

    def arrived_once_mended() -> bool:
        if mended == "key" and sink.seen().keys:
            (tmp_path / "key.new").write_text("new")
            (tmp_path / "key.new").replace(key)
        return sink.seen().events == len(LINES)

    ship_until(
        tmp_path, sink.url, arrived_once_mended, "all has arrived", lines=LINES, in_flight=in_flight, run_bytes=1,
        api_key="old", api_key_file=str(key),
    )  # fmt: skip
    each_once(sink.seen(), LINES)
    assert sink.seen().keys == ({"old": 1, "new": 3} if mended == "key" else {"old": 4})


def test_a_limit_of_bytes_holds_nothing_up_for_good(tmp_path: Path, sink: SinkProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    waits: list[float] = []
    take = endpoints.Bandwidth.take

    def noted(self: endpoints.Bandwidth, count: int, now_s: float) -> float:
        waits.append(take(self, count, now_s))
        return min(waits[-1], 0.01)

    monkeypatch.setattr(endpoints.Bandwidth, "take", noted)
    ship_until(
        tmp_path, sink.url, lambda: sink.seen().events == 3, "all has arrived", lines=LINES,
        run_bytes=1, in_flight=1, bandwidth_limit_bytes_per_s=10,
    )  # fmt: skip
    each_once(sink.seen(), LINES)
    assert waits[0] == 0.0
    assert all(wait > 1.0 for wait in waits[1:])
