"""The agent's configuration: every fault with its place and its mend, all at once; the example is complete."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import yaml

from agent import config as configs
from agent import settings, wire
from agent.config import MIB, Config
from agent.errors import ConfigError
from agent.files.tail import shortened
from agent.reading.recorder import said_of

EXAMPLE = Path(__file__).parents[2] / "config" / "agent.yaml"
MINIMAL = "sources: [{name: app, include: [/var/log/app.log]}]\n"


def parsed(text: str, **env: str) -> Config:
    return configs.parse(text, where="agent.yaml", env=env)


def faults(text: str, **env: str) -> list[str]:
    """What is said of a file that cannot be used, a line each."""
    with pytest.raises(ConfigError) as caught:
        parsed(text, **env)
    lines = str(caught.value).split("\n")
    assert all(line.startswith("agent.yaml: ") for line in lines)
    return [line.removeprefix("agent.yaml: ") for line in lines]


def test_a_source_is_all_that_is_needed() -> None:
    config = parsed(MINIMAL)
    assert config.sources[0].include == ("/var/log/app.log",)
    assert config.collector == configs.Collector()


def test_all_faults_of_a_file_are_named_at_once_with_place_and_mend() -> None:
    text = """
        sources:
          - include: [/var/log/a.log]
            frmat: json
          - {name: b, include: [/b], format: xml}
        spool: {max_bytes: many}
        pollling: true
        flush_interval_s: 0
    """
    assert faults(text) == [
        "sources[0].name: is missing; it has no default",
        "sources[0].frmat: there is no such setting; did you mean format?",
        "sources[1].format: invalid enum value 'xml' (the value is 'xml'); one of raw, json, logfmt, "
        "clf, combined, syslog, klog, regex, auto",
        "spool.max_bytes: expected `int`, got `str` (the value is 'many')",
        "pollling: there is no such setting; did you mean polling?",
        "flush_interval_s: expected `float` > 0.0 (the value is 0)",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "sources: is missing; it has no default"),
        ("sources: []", "sources: is empty; name at least one"),
        ("- a list", "the file: expected a mapping of settings, got a list"),
        ("sources: {", "not YAML: "),
        ("sources: app", "sources: expected a list, got text"),
        ("sources: [{name: a, include: []}]", "sources[0].include: is empty; give at least one path"),
        ("sources: [{name: a, include: [log/*.log]}]", "sources[0]: 'log/*.log' is not absolute; write the whole path"),
        ("sources: [{name: a, include: [/a], exclude: [b]}]", "sources[0]: 'b' is not absolute"),
        ("sources: [{name: a, include: [/a]}, {name: a, include: [/b]}]", "sources[1].name: 'a' is there twice"),
        (MINIMAL + "scope: a\nscope_file: /b", "scope and scope_file are both set; keep one"),
        (MINIMAL + "scope_file: scope", "scope_file: 'scope' is not absolute; write the whole path"),
        (MINIMAL + "start: since yesterday", "start: 'since yesterday' is no start; write beginning, end, or since and a"),
        ("sources: [{name: a, include: [/a], ignore_older: old}]", "sources[0].ignore_older: 'old' is no age; write retention"),
        ("sources: [{name: a, include: [/a], start: later}]", "sources[0].start: 'later' is no start; write beginning, end"),
        (MINIMAL + "collector: {url: 'collector:8080'}", "collector.url: 'collector:8080' is no http(s) URL; write"),
        (MINIMAL + "collector: {url: 'http://me:secret@host'}", "collector.url: carries a user or password; use"),
        (MINIMAL + "collector: {urls: ['http://b', 'b:1']}", "collector.urls[1]: 'b:1' is no http(s) URL; write for instance"),
        (MINIMAL + "collector: {proxy: 'socks://x'}", "collector.proxy: is no http URL; write for instance http://proxy:3128"),
        (MINIMAL + "collector: {key_file: /k}", "collector.key_file: is there without collector.cert_file; name"),
        (MINIMAL + "metrics: {listen: '9184'}", "metrics.listen: '9184' is no address; write for instance 127.0.0.1:9184"),
        (MINIMAL + "collector: {api_key: a, api_key_file: /b}", "collector.api_key and collector.api_key_file are both set"),
        (MINIMAL + f"spool: {{max_bytes: {20 * MIB}}}", f"spool.max_bytes is {20 * MIB}, below 4 times spool.segment_bytes"),
        (MINIMAL + "spool: {max_bytes: 1048576, segment_bytes: 4096}", "spool.max_bytes is 1048576; it must hold a few blocks"),
    ],
)  # fmt: skip
def test_each_fault_says_what_where_and_the_mend(text: str, fault: str) -> None:
    said = faults(text)
    assert len(said) == 1
    assert said[0].startswith(fault)


MANY_LABELS = {f"label{n}": "x" for n in range(wire.MAX_LABELS + 1)}
LONG = "ä" * (wire.MAX_TEXT_BYTES // 2 + 1)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"sources: [{{name: app, include: [/a], labels: {MANY_LABELS}}}]", "sources[0].labels: there are 65, a collector"),
        (f"sources: [{{name: app, include: [/a], labels: {{region: {LONG}}}}}]", "sources[0].labels.region: has 4098 bytes, a"),
        (f"sources: [{{name: app, include: [/a], labels: {{? {LONG} : x}}}}]", "sources[0].labels: the name 'ääää"),
        (f"sources: [{{name: app, include: [/a], service: {LONG}}}]", "sources[0].service: has 4098 bytes, a collector"),
        ("sources: [{name: app, include: [/a], path_labels: ['(']}]", "sources[0].path_labels: '(' is no regular expression: "),
        (MINIMAL + f"name: {LONG}", "name: has 4098 bytes, a collector takes at most 4096; shorten it"),
        (MINIMAL + f"scope: {LONG}", "scope: has 4098 bytes, a collector takes at most 4096; shorten it"),
    ],
)  # fmt: skip
def test_what_a_collector_would_refuse_with_every_record_is_refused_at_the_start(text: str, fault: str) -> None:
    said = faults(text)
    assert len(said) == 1
    assert said[0].startswith(fault)


def test_a_secret_of_the_wrong_type_is_not_quoted() -> None:
    assert "4711" not in faults(MINIMAL + "collector: {api_key: [4711]}")[0]


def test_a_password_in_the_url_is_not_quoted() -> None:
    assert "secret" not in faults(MINIMAL + "collector: {url: 'http://me:secret@host'}")[0]


def test_the_environment_fills_values_and_numbers() -> None:
    text = MINIMAL + "name: 'host-${NUMBER}'\nscope: '${SCOPE:-default}'\ncollector: {max_in_flight: '${NUMBER}'}\n"
    config = parsed(text, NUMBER="7")
    assert (config.name, config.scope, config.collector.max_in_flight) == ("host-7", "default", 7)


def test_a_variable_that_is_not_set_is_named() -> None:
    assert faults(MINIMAL + "name: '${NOWHERE}'") == [
        "name: the environment variable NOWHERE is not set; set it, or give a default: ${NOWHERE:-value}"
    ]


def test_the_key_comes_from_its_file(tmp_path: Path) -> None:
    key, file = tmp_path / "key", tmp_path / "agent.yaml"
    key.write_text("  the-key\n")
    file.write_text(MINIMAL + f"collector: {{api_key_file: {key}}}")
    assert configs.load(file, env={}).collector.api_key == "the-key"


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), ("\n", "is empty; write the secret into it")])
def test_a_key_file_that_does_not_serve_is_named(tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text(MINIMAL + f"collector: {{api_key_file: {tmp_path}/key}}")
    if content is not None:
        (tmp_path / "key").write_text(content)
    with pytest.raises(ConfigError, match=f"agent.yaml: collector.api_key_file: {tmp_path}/key .*{said}"):
        configs.load(file, env={})


def test_a_configuration_that_is_not_there_is_named_with_the_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read: No such file or directory; .*--config"):
        configs.load(tmp_path / "nowhere.yaml", env={})


@pytest.mark.parametrize(
    ("max_memory_bytes", "runs"), [(16 * MIB, 2), (24 * MIB, 4), (48 * MIB, 4)], ids=["little", "enough", "plenty"]
)
def test_requests_in_flight_fit_into_the_memory(max_memory_bytes: int, runs: int) -> None:
    assert configs.runs_in_flight(parsed(MINIMAL + f"max_memory_bytes: {max_memory_bytes}")) == runs


def test_one_request_is_in_flight_however_little_memory_there_is() -> None:
    text = MINIMAL + f"max_memory_bytes: {16 * MIB}\ncollector: {{run_bytes: {8 * MIB}}}"
    assert configs.runs_in_flight(parsed(text)) == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1.5m", 90), ("24h", 86400), ("7d", 604800), ("2 w", 1209600), ("5", None), ("h", None), ("-1h", None)],
)
def test_a_duration_has_a_number_and_a_unit(text: str, seconds: float | None) -> None:
    assert settings.duration_s(text) == seconds


def test_the_example_configuration_is_valid() -> None:
    config = configs.parse(EXAMPLE.read_text(), where="config/agent.yaml", env={"PULSESTREAM_API_KEY": "a-key"})
    assert config.sources
    assert config.collector.api_key == "a-key"


def test_every_setting_stands_in_the_example_in_use_or_commented_out() -> None:
    written = set(keys_of(yaml.safe_load(uncommented(EXAMPLE.read_text()))))
    assert sorted(set(settings_of(Config)) - written) == []


def test_the_example_shows_the_defaults() -> None:
    config = configs.parse(uncommented(EXAMPLE.read_text()), where="config/agent.yaml", env={})
    source = config.sources[0]
    assert config == Config(sources=(configs.Source(source.name, source.include),))


def uncommented(text: str) -> str:
    """The example with its commented-out settings (``# name: value``) in force."""
    return re.sub(r"^( *)# ( *[a-z_]+:( |$))", r"\1\2", text, flags=re.MULTILINE)


def settings_of(kind: type[msgspec.Struct], at: str = "") -> Iterator[str]:
    """``collector.url`` and so on; lists of structs as ``sources.name``."""
    for field in msgspec.structs.fields(kind):
        yield f"{at}{field.name}"
        for inner in (field.type, *get_args(field.type)):
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                yield from settings_of(inner, f"{at}{field.name}.")


def keys_of(tree: Any, at: str = "") -> Iterator[str]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield f"{at}{name}"
            yield from keys_of(value, f"{at}{name}.")
    elif isinstance(tree, list):
        for value in tree:
            yield from keys_of(value, at)


def test_a_label_from_the_environment_can_be_written_into_a_record() -> None:
    text = "sources: [{name: a, include: [/a], labels: {node: '${NODE}'}}]"
    found = configs.parse(text, where="w", env={"NODE": "n1"})
    assert wire.encode_record(wire.Header(wire.DATA, "r", labels=found.sources[0].labels), b"")


@pytest.mark.parametrize("path", ["/" + "é" * 3000 + "/app.log", "/" + "\\xff" * 3000 + "/app.log"])
def test_a_path_longer_than_a_collector_takes_is_shown_by_its_end(path: str) -> None:
    shown = shortened(path)
    assert shown.startswith("…")
    assert shown.endswith("/app.log")
    assert wire.MAX_TEXT_BYTES - 3 <= len(shown.encode()) <= wire.MAX_TEXT_BYTES


def test_any_other_path_is_shown_as_it_is() -> None:
    assert shortened("/" + "x" * 4095) == "/" + "x" * 4095


SOURCE = "sources: [{{name: a, include: [/a], {}}}]"


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("format: regex", "pattern: is missing; the format regex needs one"),
        ("pattern: '(?P<a>x)'", "pattern: is only used by the format regex, and format is raw"),
        ("format: regex, pattern: '(?P<a>x'", "pattern: is no regular expression"),
        ("format: regex, pattern: '(?P<a>x)(?=y)'", "pattern: '(?=y' is not taken"),
        ("format: regex, pattern: '(x)'", "pattern: has no named group; write for instance"),
        ("format: json, time_format: soon", "time_format: 'soon' is none; write one of auto, iso8601"),
        ("format: json, time_format: '%H:%M'", "time_format: '%H:%M' does not tell the day"),
        ("format: syslog, time_format: iso8601", "time_format: is for json, logfmt and regex; syslog has times of its own"),
        ("format: json, time_zone: Mars/Base", "time_zone: 'Mars/Base' is no time zone that this machine knows"),
        ("time_zone: +02:00", "time_zone: raw lines have no times"),
    ],
)
def test_a_format_that_cannot_work_is_named(said: str, fault: str) -> None:
    (found,) = faults(SOURCE.format(said))
    assert found.startswith(f"sources[0].{fault}")


def test_how_lines_are_read_is_said_in_every_record() -> None:
    said = "format: regex, pattern: '(?<a>x)', time_format: '%F', time_zone: Europe/Paris, fields: {time: [a]}"
    (source,) = parsed(SOURCE.format(said)).sources
    fields = said_of(source)["fields"]
    assert fields == wire.Fields(time=("a",), pattern="(?<a>x)", time_format="%F", time_zone="Europe/Paris")
    assert said_of(parsed(SOURCE.format("format: auto")).sources[0])["fields"] == wire.Fields()
