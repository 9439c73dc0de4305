"""TLS of the collector itself: real sockets, real certificates, files that change under connections and agents; and
who is behind a proxy that does it instead."""

from __future__ import annotations

import http.client
import importlib.util
import json
import re
import shutil
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.config import Tls
from collector.errors import ConfigError
from collector.serving.certificates import certificates_in, unlinked
from collector.serving.tls import made
from tests.support.agent import AgentProcess, App
from tests.support.certificates import Authority
from tests.support.collector import Collector, command
from tests.support.engine import ClickHouseFront
from tests.support.wait import until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="the engine (chdb) is not installed"),
    pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl command to make certificates"),
]


class Place:
    """Where a collector finds its certificate, key and authorities, and where they are put."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.cert, self.key, self.clients = (folder / name for name in ("tls.crt", "tls.key", "ca.crt"))

    def put(self, pair: tuple[Path, Path]) -> None:
        for source, target in zip(pair, (self.cert, self.key), strict=True):
            put(source.read_bytes(), target)

    def settings(self, **more: str) -> str:
        clients = {"client_ca_file": str(self.clients)} if self.clients.exists() else {}
        return json.dumps({"cert_file": str(self.cert), "key_file": str(self.key), **clients, **more})


def put(content: bytes, target: Path) -> None:
    """As a deployment does: all at once."""
    fresh = target.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.replace(target)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseFront]:
    with ClickHouseFront(tmp_path_factory.mktemp("engine") / "data") as front:
        yield front


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authorities") / "first")


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authorities") / "second")


@pytest.fixture
def place(tmp_path: Path, authority: Authority) -> Place:
    made = Place(tmp_path / "tls")
    made.put(authority.issue("server"))
    return made


def client(authority: Authority, *pair: Path, **settings: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.ca))
    if pair:
        context.load_cert_chain(*pair)
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def speaking_tls(folder: Path, engine: ClickHouseFront, tls: str, *, workers: int = 1, more: str = "") -> Collector:
    return Collector(folder, store=engine.url, more=f"server: {{workers: {workers}, tls: {tls}}}\n{more}")


def shown(collector: Collector) -> bytes:
    """The certificate that a new connection is shown."""
    connection = collector.connection()
    connection.connect()
    try:
        found = connection.sock.getpeercert(binary_form=True)
        assert found
        return found
    finally:
        connection.close()


def der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def metric(collector: Collector, name: str) -> float:
    text = collector.request("GET", "/metrics").body.decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.split(" ")[0] == name)


def refused(collector: Collector, context: ssl.SSLContext) -> str:
    """How a request ends that gets no answer."""
    before, collector.tls = collector.tls, context
    try:
        return f"answered {collector.request('GET', '/healthz').status}"
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        collector.tls = before


def test_the_certificate_is_changed_without_the_end_of_any_connection(
    tmp_path: Path, engine: ClickHouseFront, authority: Authority, another: Authority, place: Place
) -> None:
    with speaking_tls(tmp_path / "c", engine, place.settings()) as collector:
        collector.tls = client(authority)
        assert "listens on https://127.0.0.1:" in collector.ready_line
        first = certificates_in(place.cert.read_text())[0]
        assert metric(collector, "collector_tls_certificate_ends_timestamp_seconds") == first.ends_s
        kept = collector.connection()
        kept.request("GET", "/healthz")
        assert kept.getresponse().read()

        # One file after the other, and each of them broken in between: nothing of it is used.
        put(another.issue("server")[0].read_bytes(), place.cert)
        until(lambda: "the key is of another certificate" in collector.stderr.read_text(), "it refuses the pair")
        assert shown(collector) == der(authority.folder / "server.pem")
        assert metric(collector, "collector_tls_refused") == 1.0
        put(b"no key", place.key)
        until(lambda: collector.stderr.read_text().count("cannot be used, the certificate before") == 2, "and that one")
        assert shown(collector) == der(authority.folder / "server.pem")

        cert, key = authority.issue("renewed")
        place.put((cert, key))
        until(lambda: shown(collector) == der(cert), "a new connection is shown the new one", told=collector.stderr.read_text)
        assert metric(collector, "collector_tls_refused") == 0.0
        assert metric(collector, 'collector_tls_reloads_total{result="refused"}') == 2.0
        kept.request("GET", "/healthz")
        assert kept.getresponse().status == 200
        kept.close()
        assert collector.stop() == 0


def test_clients_need_a_certificate_of_the_authority_that_is_there_now(
    tmp_path: Path, engine: ClickHouseFront, authority: Authority, another: Authority, place: Place
) -> None:
    place.clients.write_bytes(authority.ca.read_bytes())
    ours, theirs = authority.issue("agent-1"), another.issue("agent-2")
    with speaking_tls(tmp_path / "c", engine, place.settings()) as collector:
        collector.tls = client(authority, *ours)
        assert refused(collector, client(authority)) != "answered 200"
        assert refused(collector, client(authority, *theirs)) != "answered 200"
        assert collector.request("GET", "/api/v1/ingestion/health").status == 200
        log = collector.stderr.read_text()
        assert "a TLS handshake failed: no_client_certificate" in log
        assert "a TLS handshake failed: bad_client_certificate" in log
        assert "certificate=agent-1" in log
        assert metric(collector, 'collector_tls_handshake_failures_total{reason="no_client_certificate"}') == 1.0

        asked = ["search", "--url", collector.url, "--key", collector.new_tenant("Asked"), "--ca-file", str(authority.ca)]
        with_one = command(*asked, "--tls-cert-file", str(ours[0]), "--tls-key-file", str(ours[1]))
        assert (with_one.returncode, with_one.stderr) == (1, ""), "nothing is there to be found"
        assert command(*asked).returncode == 2

        # The authority is exchanged: whom the old one has certified is out, with an old session too.
        put(another.ca.read_bytes(), place.clients)
        collector.tls = client(authority, *theirs)
        until(lambda: refused(collector, client(authority, *theirs)) == "answered 200", "the new authority counts")
        assert refused(collector, client(authority, *ours)) != "answered 200"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, engine: ClickHouseFront, authority: Authority) -> Iterator[Collector]:
    """Certificates for all but probes, and the newest TLS only."""
    place = Place(tmp_path_factory.mktemp("strict") / "tls")
    place.put(authority.issue("strict"))
    place.clients.write_bytes(authority.ca.read_bytes())
    tls = place.settings(client_certificates="required_except_probes", min_version="1.3")
    with speaking_tls(place.cert.parent / "c", engine, tls) as running:
        yield running


def test_probes_may_come_without_a_certificate_where_that_is_allowed_and_nothing_else(
    strict: Collector, authority: Authority, another: Authority
) -> None:
    strict.tls = client(authority)
    assert [strict.request("GET", path).status for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3
    answer = strict.request("GET", "/api/v1/ingestion/events/search", key="ps_x")
    assert (answer.status, answer.body["error"]["code"]) == (403, "client_certificate_required")
    assert strict.request("GET", "/healthz/../api/v1/ingestion/health").status == 403
    assert refused(strict, client(authority, *another.issue("agent-2"))) != "answered 200"
    strict.tls = client(authority, *authority.issue("agent-1"))
    assert strict.request("GET", "/api/v1/ingestion/health").status == 200


def test_old_versions_and_plain_http_get_no_connection(strict: Collector, authority: Authority) -> None:
    assert refused(strict, client(authority)) == "answered 200"
    assert refused(strict, client(authority, maximum_version=ssl.TLSVersion.TLSv1_2)) != "answered 200"
    plain = http.client.HTTPConnection("127.0.0.1", strict.port, timeout=10)
    plain.request("GET", "/healthz")
    with pytest.raises((OSError, http.client.HTTPException)):
        plain.getresponse()
    plain.close()


def test_a_pair_that_cannot_be_used_ends_the_start(tmp_path: Path, authority: Authority, place: Place) -> None:
    put(authority.issue("other")[1].read_bytes(), place.key)
    config = tmp_path / "c.yaml"
    config.write_text(f"store: {{url: 'http://127.0.0.1:9'}}\nserver: {{port: 0, tls: {place.settings()}}}\n")
    done = command("serve", "--config", str(config))
    assert (done.returncode, done.stdout) == (2, "")
    assert "the key is of another certificate; they must be a certificate (the chain behind it) and its key, PEM" in done.stderr


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("missing", "cannot be read: No such file or directory; check the path and its mode"),
        ("nonsense", "no certificate with its key, without a password"),
        ("binary", "is not PEM; it must be text"),
        ("clients", "no certificates in it; it must be a PEM file of authorities"),
    ],
)
def test_files_that_cannot_be_used_are_named_with_the_mend(place: Place, wrong: str, said: str) -> None:
    if wrong == "missing":
        place.key.unlink()
    else:
        put(b"\xff\xfe" if wrong == "binary" else b"nonsense", place.clients if wrong == "clients" else place.cert)
    with pytest.raises(ConfigError, match=re.escape(said)):
        made(msgspec.convert(json.loads(place.settings()), Tls))


def test_the_word_of_a_proxy_on_the_client_is_taken_from_trusted_ones_only(tmp_path: Path, engine: ClickHouseFront) -> None:
    trusting = "server: {trusted_proxies: [127.0.0.2/32, 10.0.0.0/8]}"
    with Collector(tmp_path, store=engine.url, more=trusting) as collector:

        def remote(source: str, **headers: str) -> str:
            """What the log says of a request from this address of the machine's."""
            connection = http.client.HTTPConnection("127.0.0.1", collector.port, timeout=10, source_address=(source, 0))
            name = f"{source}-{len(headers)}-{time.monotonic_ns()}"
            sent = {field.replace("_", "-"): value for field, value in headers.items()}
            connection.request("GET", "/api/v1/ingestion/events/types", headers={"X-Request-Id": name, **sent})
            connection.getresponse().read()
            connection.close()
            line = next(line for line in collector.stderr.read_text().splitlines() if f"request_id={name}" in line)
            return line.partition(" remote=")[2]

        spoof = "6.6.6.6, 1.2.3.4, 10.5.5.5"
        assert remote("127.0.0.2", X_Forwarded_For=spoof, X_Forwarded_Proto="https") == "1.2.3.4 scheme=https"
        assert remote("127.0.0.2", Forwarded="for=6.6.6.6", X_Forwarded_For="1.2.3.4") == "1.2.3.4"
        assert remote("127.0.0.2", Forwarded="for=6.6.6.6") == "127.0.0.2"
        assert remote("127.0.0.3", X_Forwarded_For=spoof, X_Forwarded_Proto="https") == "127.0.0.3"
        assert remote("127.0.0.3", X_Forwarded_For="127.0.0.2") == "127.0.0.3"


class Writer(threading.Thread):
    """Writes lines until it is told that enough has happened."""

    def __init__(self, app: App) -> None:
        super().__init__()
        self._app = app
        self.enough = threading.Event()

    def run(self) -> None:
        while not self.enough.wait(0.01):
            self._app.write(3)


def test_an_agents_lines_arrive_once_while_every_certificate_is_changed(
    tmp_path: Path, engine: ClickHouseFront, authority: Authority, another: Authority, place: Place
) -> None:
    """Two workers ask for certificates; both sides change theirs, and then their authorities, while lines flow."""
    put(authority.ca.read_bytes(), place.clients)
    agents = Place(tmp_path / "agents")
    agents.put(authority.issue("agent"))
    put(authority.ca.read_bytes(), agents.clients)
    both = authority.ca.read_bytes() + another.ca.read_bytes()
    with speaking_tls(tmp_path / "c", engine, place.settings(), workers=2) as collector:
        collector.tls = client(authority, *authority.issue("test"))
        key = collector.new_tenant("Certified")
        app = App(tmp_path / "logs" / "app.log")
        app.write(3)
        agent = AgentProcess(tmp_path / "agent", url=collector.url, include=[app.path])
        agent.configure(
            collector={
                "api_key": key,
                "ca_file": str(agents.clients),
                "cert_file": str(agents.cert),
                "key_file": str(agents.key),
            }
        )
        writer = Writer(app)
        with agent:
            writer.start()
            try:
                agent.logged("first contact")
                place.put(authority.issue("renewed"))
                until(lambda: collector.stderr.read_text().count("files were read again") >= 2, "both workers have it")
                agents.put(authority.issue("agent-renewed"))
                agent.logged("read again for new connections")
                # Over to another authority: first both are trusted, then it issues, then the first is trusted no more.
                put(both, place.clients)
                put(both, agents.clients)
                until(lambda: collector.stderr.read_text().count("files were read again") >= 4, "both workers trust both")
                agents.put(another.issue("agent-moved"))
                place.put(another.issue("server-moved"))
                put(another.ca.read_bytes(), place.clients)
                until(lambda: moved(collector, client(another, *another.issue("test"))), "the new authority counts")
                collector.tls = client(another, *another.issue("test"))
                until(lambda: "certificate=agent-moved" in collector.stderr.read_text(), "the agent is there with its new one",
                      told=agent.log)  # fmt: skip
            finally:
                writer.enough.set()
                writer.join()
            until(lambda: set(texts(collector, key)) == set(app.lines), "all is there", told=agent.log)
        found = Counter(texts(collector, key))
        assert set(found) == set(app.lines)
        assert {text: count for text, count in found.items() if count != 1} == {}


def moved(collector: Collector, context: ssl.SSLContext) -> bool:
    return all(refused(collector, context) == "answered 200" for _ in range(8))


def texts(collector: Collector, key: str) -> Iterator[str]:
    query: dict[str, object] = {"limit": 1000}
    while True:
        page = collector.search(key, **query)
        yield from (event["message"] for event in page["events"])
        if not page["has_more"]:
            return
        query["cursor"] = page["next_cursor"]


def test_a_certificate_says_when_it_ends_and_who_issued_it(authority: Authority, another: Authority) -> None:
    cert, _ = authority.issue("chained")
    chain = certificates_in(cert.read_text() + "\n# and then\n" + authority.ca.read_text())
    assert [one.name for one in chain] == ["chained", f"authority {authority.folder.name}"]
    assert unlinked(chain) is None
    assert unlinked([chain[0], certificates_in(another.ca.read_text())[0]]) == 0
    assert chain[0].begins_s <= time.time() < chain[0].ends_s <= time.time() + 3 * 86_400
    with pytest.raises(ValueError, match="ends too early"):
        certificates_in(ssl.DER_cert_to_PEM_cert(der(cert)[:60]))


def test_the_agents_certificate_stays_in_force_when_another_cannot_be_used(
    tmp_path: Path, engine: ClickHouseFront, authority: Authority, another: Authority, place: Place
) -> None:
    """Half of a new pair, loaded into the context in use, would have taken the old pair's key away."""
    put(authority.ca.read_bytes(), place.clients)
    agents = Place(tmp_path / "agents")
    agents.put(authority.issue("agent"))
    with speaking_tls(tmp_path / "c", engine, place.settings()) as collector:
        collector.tls = client(authority, *authority.issue("test"))
        key = collector.new_tenant("Half a pair")
        app = App(tmp_path / "logs" / "app.log")
        app.write(3)
        agent = AgentProcess(tmp_path / "agent", url=collector.url, include=[app.path])
        files = {"ca_file": str(authority.ca), "cert_file": str(agents.cert), "key_file": str(agents.key)}
        agent.configure(collector={"api_key": key, **files})
        with agent:
            agent.settle()
            put(another.issue("half")[0].read_bytes(), agents.cert)
            app.write(3)
            agent.logged("what was there before stays in force")
            collector.stop()
            collector.start()  # its connections are gone: it needs the certificate again
            app.write(3)
            until(lambda: sorted(texts(collector, key)) == sorted(app.lines), "all is there, once", told=agent.log)
