import msgspec
import pytest

from agent import wire
from collector import errors
from collector.errors import (
    TABLE,
    BadRun,
    CollectorError,
    Envelope,
    QueueFull,
    StoreAway,
    StoreError,
    TooLarge,
    UnsupportedVersion,
    answer_of,
    entry_of,
    invalid,
)

ENGINE_TEXT = "Cannot parse input: row of another tenant"
NEVER_ANSWERED = {errors.ConfigError, errors.StoreLocked}


def subclasses(kind: type[Exception]) -> set[type[Exception]]:
    found = set(kind.__subclasses__())
    return found.union(*(subclasses(sub) for sub in found))


def test_every_error_of_this_module_has_an_entry_of_its_own() -> None:
    ours = {kind for kind in subclasses(CollectorError) if kind.__module__ == errors.__name__}
    assert ours - set(TABLE) == NEVER_ANSWERED


def test_the_codes_are_stable_and_unique() -> None:
    codes = [code for _, code in TABLE.values()]
    assert len(codes) == len(set(codes))
    assert {code for name, code in vars(wire).items() if name.startswith("CODE_")} <= set(codes)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BadRun(17, "the checksum does not match"), 400, "bad_record"),
        (TooLarge("x"), 413, "too_large"),
        (UnsupportedVersion(0, "version 9"), 503, "unsupported_version"),
        (QueueFull(2.5), 503, "queue_full"),
        (StoreAway(), 503, "store_unavailable"),
        (StoreError(60, ENGINE_TEXT), 500, "store_error"),
        (ZeroDivisionError("secret"), 500, "internal_error"),
    ],
)
def test_an_error_has_its_status_and_code(error: Exception, status: int, code: str) -> None:
    reply = answer_of(error, "r1")
    assert (reply.status, reply.body.code, reply.body.request_id) == (status, code, "r1")


def test_a_subclass_without_an_entry_is_answered_as_its_ancestor() -> None:
    class Special(QueueFull):
        pass

    assert entry_of(Special) == (503, "queue_full")


@pytest.mark.parametrize("error", [StoreError(27, ENGINE_TEXT), StoreAway(0, ENGINE_TEXT), RuntimeError(ENGINE_TEXT)])
def test_the_text_of_the_engine_or_of_our_bug_is_never_told(error: Exception) -> None:
    assert "another tenant" not in msgspec.json.encode(Envelope(answer_of(error).body)).decode()


def test_what_must_be_retried_says_when() -> None:
    assert answer_of(QueueFull(2.5)).retry_after_s == 2.5
    assert answer_of(StoreAway()).retry_after_s == 1.0
    assert answer_of(UnsupportedVersion(0, "version 9")).retry_after_s == 60.0


def test_a_bad_run_names_byte_and_record() -> None:
    body = answer_of(BadRun(17, "the checksum does not match", record_id="r-7")).body
    assert body.message == "bad record at byte 17 (record_id r-7): the checksum does not match"
    assert (body.errors[0].field, body.errors[0].value) == ("records[r-7]", "r-7")


def test_a_quoted_value_is_short_and_printable() -> None:
    error = invalid("limit", "expected a number", "a\x00\n" + "b" * 500)
    assert error.errors[0].value == "a\ufffd\ufffd" + "b" * 97 + "…"


def test_a_value_nested_deeper_than_the_stack_can_be_quoted() -> None:
    value: object = 1
    for _ in range(20_000):
        value = {"a": value}
    assert invalid("title", "is odd", value).errors[0].value == "(nested too deeply to be shown)"


def test_the_envelope_is_what_the_api_promises() -> None:
    body = msgspec.json.decode(msgspec.json.encode(Envelope(answer_of(invalid("limit", "bad", "x", "use 5")).body)))
    fault = {"field": "limit", "error": "bad", "value": "x", "suggestion": "use 5"}
    assert body == {"error": {"code": "invalid", "message": "limit: bad, got 'x'; use 5", "errors": [fault], "request_id": ""}}
