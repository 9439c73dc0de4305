import pytest

from collector.__main__ import main


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int) -> str:
    assert main(arguments) == status
    return capsys.readouterr().err


def test_the_help_teaches_by_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "pulsestream-collector tenant create" in capsys.readouterr().out


def test_wrong_usage_has_a_status_of_its_own() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--prot", "1"])
    assert ended.value.code == 2


def test_a_bad_configuration_is_named_and_nothing_starts(capsys: pytest.CaptureFixture[str]) -> None:
    assert "command line: store.url: unknown scheme 'x'" in said(capsys, "serve", "--store", "x://y", status=2)
    assert "command line: server.port: expected" in said(capsys, "serve", "--port", "-1", status=2)
    assert "/no/such/file: cannot be read" in said(capsys, "serve", "--config", "/no/such/file", status=2)


def test_the_schema_can_be_read_without_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "print"]) == 0
    assert "CREATE TABLE IF NOT EXISTS pulsestream.events" in capsys.readouterr().out
