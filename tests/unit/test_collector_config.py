from pathlib import Path

import msgspec
import pytest
import yaml

from collector import config
from collector.config import Config, ConfigError

EXAMPLE = Path(__file__).parents[2] / "config" / "collector.yaml"


def parsed(text: str, **env: str) -> Config:
    return config.parse(text, where="c.yaml", env=env)


def refusal(text: str, **env: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parsed(text, **env)
    return caught.value.message


def keys_of(tree: dict[str, object], at: str = "") -> set[str]:
    found: set[str] = set()
    for name, value in tree.items():
        found |= keys_of(value, f"{at}{name}.") if isinstance(value, dict) else {at + name}
    return found


def test_the_example_is_the_default_configuration() -> None:
    assert config.load(EXAMPLE) == Config()


def test_the_example_names_every_setting() -> None:
    assert keys_of(yaml.safe_load(EXAMPLE.read_text())) == keys_of(msgspec.to_builtins(Config()))


@pytest.mark.parametrize("text", ["", "# nothing\n", "server:\n", "store: {}\n"])
def test_what_is_left_out_has_its_default(text: str) -> None:
    assert parsed(text) == Config()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server: {prot: 1}", "c.yaml: server.prot: there is no such setting; did you mean port?"),
        ("sevrer: {}", "c.yaml: sevrer: there is no such setting; did you mean server?"),
        ("server: {port: '80x'}", "c.yaml: server.port: expected `int`, got `str` (the value is '80x')"),
        ("server: {port: 70000}", "c.yaml: server.port: expected `int` <= 65535 (the value is 70000)"),
        ("store: {readers: 0}", "store.readers: expected `int` >= 2"),
        ("log: {format: xml}", "log.format: invalid enum value 'xml' (the value is 'xml'); one of text, json"),
        ("- a", "c.yaml: the file: expected a mapping of settings, got a list"),
        ("server: 5", "c.yaml: server: expected a mapping of settings, got int"),
        ("server: {", "c.yaml: not YAML: while parsing a flow"),
        ("store: {url: 'chdb://var/x'}", "store.url: chdb://var/x names no absolute folder; write three slashes"),
        ("store: {url: 'chdb:///'}", "names no absolute folder"),
        ("store: {url: 'mysql://x'}", "store.url: unknown scheme 'mysql'"),
        ("store: {url: 'http://'}", "store.url: http URL without a host"),
        ("store: {url: 'http://a:b@h'}", "store.url: carries a user or password; use store.user"),
        ("store: {database: 'a b'}", "store.database: expected `str` matching regex"),
        ("writer: {commit_bytes: 100000000}", "writer.commit_bytes is 100000000, above writer.queue_bytes 67108864"),
        ("server: {max_request_bytes: 1024}", "default_limits.max_request_bytes is 16777216, above server.max_request"),
        ("{admin_token: a, admin_token_file: b}", "admin_token and admin_token_file are both set; keep one"),
        ("quota: {redis_url: 'http://h'}", "quota.redis_url: expected redis://host:6379/0 (or rediss:// for TLS)"),
        ("quota: {redis_url: 'redis://:pw@h'}", "quota.redis_url: carries a user or password; use quota.redis_password_file"),
        ("quota: {redis_password: a, redis_password_file: b}", "quota.redis_password and quota.redis_password_file are both"),
        (
            "server: {workers: 2}",
            "server.workers is 2, but store.url chdb:///var/lib/pulsestream/store is an engine inside one",
        ),
        ("server: {tls: {key_file: k}}", "server.tls.key_file is set, but no server.tls.cert_file"),
        (
            "server: {tls: {cert_file: c, client_certificates: optional}}",
            "server.tls.client_certificates is optional, but no server.tls.client_ca_file says whose",
        ),
        ("server: {tls: {min_version: '1.1'}}", "server.tls.min_version: invalid enum value '1.1'"),
        ("server: {trusted_proxies: [10.0.0.1/8]}", "server.trusted_proxies: '10.0.0.1/8' is no network; write for instance"),
        ("server: {workers: 0}", "server.workers: expected `int` >= 1"),
        ("default_limits: {on_limit: drop}", "default_limits.on_limit: invalid enum value 'drop'"),
        (
            "store: {ca_file: a.pem}",
            "store.ca_file is set, but store.url chdb:///var/lib/pulsestream/store is not https; write",
        ),
        ("quota: {redis_url: 'redis://h', redis_ca_file: a}", "quota.redis_ca_file is set, but quota.redis_url is not rediss"),
        ("store: {password: a, password_file: b}", "store.password and store.password_file are both set"),
    ],
)
def test_a_fault_is_named_with_place_and_mend(text: str, said: str) -> None:
    assert said in refusal(text)


def test_all_faults_are_reported_at_once() -> None:
    said = refusal("server: {port: x, hots: y}\nstore: {readers: z}\nfoo: 1\n")
    assert [line.split(": ")[1] for line in said.splitlines()] == ["server.port", "server.hots", "store.readers", "foo"]


def test_a_secret_of_the_wrong_type_is_not_quoted() -> None:
    assert "4711" not in refusal("store: {password: 4711}")


def test_values_come_from_the_environment() -> None:
    found = parsed("server: {host: 'a${H}b', port: '${P}'}\nstore: {database: '${D:-other}'}", H="-x-", P="81")
    assert (found.server.host, found.server.port, found.store.database) == ("a-x-b", 81, "other")


def test_an_environment_variable_that_is_not_set_is_named() -> None:
    assert "store.password: the environment variable PW is not set; set it" in refusal("store: {password: '${PW}'}")


def test_text_of_the_environment_stays_text() -> None:
    assert parsed("store: {password: '${PW}'}", PW="0815").store.password == "0815"


def test_an_escaped_expression_is_kept() -> None:
    assert parsed("store: {password: 'a$${B}c'}").store.password == "a${B}c"


def test_secrets_are_read_from_files_without_their_line_end(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef\n")
    (tmp_path / "password").write_text("s3cret\n")
    file = tmp_path / "c.yaml"
    file.write_text(f"admin_token_file: {tmp_path}/token\nstore: {{password_file: {tmp_path}/password}}\n")
    found = config.load(file, {})
    assert (found.admin_token, found.store.password) == ("0123456789abcdef", "s3cret")


def test_a_file_of_authorities_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    (tmp_path / "nonsense").write_text("-----BEGIN NONSENSE-----\n")
    for name, why in (("none", "No such file or directory"), ("nonsense", "not usable")):
        file.write_text(f"store: {{url: 'https://h', ca_file: {tmp_path}/{name}}}\n")
        with pytest.raises(ConfigError, match=rf"store.ca_file: {tmp_path}/{name}: {why}; it must be a readable file"):
            config.load(file, {})
        file.write_text(f"quota: {{redis_url: 'rediss://h', redis_ca_file: {tmp_path}/{name}}}\n")
        with pytest.raises(ConfigError, match=rf"quota.redis_ca_file: {tmp_path}/{name}: {why}; it must be"):
            config.load(file, {})


def test_a_secret_file_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    (tmp_path / "empty").write_text("\n")
    for name, said in (("none", "cannot be read: No such file"), ("empty", "is empty; write the secret into it")):
        file.write_text(f"admin_token_file: {tmp_path}/{name}\n")
        with pytest.raises(ConfigError, match=said):
            config.load(file, {})


def test_a_short_admin_token_is_refused_without_being_quoted(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("admin_token: hunter2\n")
    with pytest.raises(ConfigError, match="admin_token has 7 characters; use at least 16") as caught:
        config.load(file, {})
    assert "hunter2" not in caught.value.message


def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ConfigError, match=r"/no/such\.yaml: cannot be read: No such file or directory"):
        config.load("/no/such.yaml", {})


def test_changes_of_the_command_line_are_checked_like_the_file() -> None:
    changed = config.changed(Config(), {"server": {"port": 0, "host": None}}, where="command line")
    assert (changed.server.port, changed.server.host) == (0, "127.0.0.1")
    with pytest.raises(ConfigError, match=r"command line: store\.url: unknown scheme"):
        config.changed(Config(), {"store": {"url": "x"}}, where="command line")
