"""Dockerfiles without a Docker engine: what they say, and the steps of a stage done in a plain folder.

Only what the project's own files use is understood; anything else raises.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
_KNOWN = {
    "FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "LABEL", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK",
    "ENTRYPOINT", "CMD",
}  # fmt: skip


_UNREACHABLE = re.compile(r"NewConnectionError|ConnectTimeoutError|NameResolutionError|ReadTimeoutError|ProxyError")


class NoIndex(Exception):
    """The packages' index does not answer."""


class Step(NamedTuple):
    word: str
    rest: str


class Stage(NamedTuple):
    base: str
    name: str
    steps: list[Step]

    def all(self, word: str) -> list[str]:
        return [step.rest for step in self.steps if step.word == word]

    def one(self, word: str) -> str:
        (rest,) = self.all(word)
        return rest

    def pairs(self, word: str) -> dict[str, str]:
        """What its ENVs, LABELs or ARGs set."""
        parts = [part.partition("=") for rest in self.all(word) for part in shlex.split(rest)]
        return {name: value for name, _, value in parts}

    def command(self, word: str) -> list[str]:
        """Of ENTRYPOINT or CMD, in the exec form: a shell as the first process would keep signals for itself."""
        found = json.loads(self.one(word))
        assert isinstance(found, list)
        return found


def stages(text: str) -> list[Stage]:
    """The stages of a Dockerfile; arguments before the first are filled in where the bases name them."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found: list[Stage] = []
    given: dict[str, str] = {}
    for instruction in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        word, _, rest = instruction.strip().partition(" ")
        if not word:
            continue
        assert word in _KNOWN, instruction
        rest = rest.strip()
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(filled(base, given), name, []))
        elif not found:
            name, _, value = rest.partition("=")
            given[name] = value
        else:
            found[-1].steps.append(Step(word, rest))
    return found


def filled(text: str, given: Mapping[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda match: given[match[1]], text)


def is_sent(path: Path, patterns: list[str]) -> bool:
    """Whether a file of the repository is part of the build's context, by the patterns of .dockerignore."""
    name = path.relative_to(REPOSITORY).as_posix()
    above = [name, *(parent.as_posix() for parent in Path(name).parents)]
    sent = True
    for pattern in patterns:
        wanted = pattern.removeprefix("!")
        loose = wanted.removeprefix("**/")
        if any(
            fnmatch.fnmatch(part, wanted) or (loose != wanted and fnmatch.fnmatch(Path(part).name, loose)) for part in above
        ):
            sent = pattern.startswith("!")
    return sent


def ignored_patterns() -> list[str]:
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def build(stage: Stage, root: Path, *, python: str, **arguments: str) -> None:
    """Do the steps of a build stage with ``root`` as the root of its file system. Only /src and /opt are known to lie in it.

    ``python``: what is called python there. ``arguments``: instead of the defaults of its ARGs.
    """
    commands = root / "bin"
    commands.mkdir(parents=True)
    (commands / "python").symlink_to(python)
    env = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "PIP_NO_COMPILE": "1"}
    folder, patterns = root, ignored_patterns()
    given = {**stage.pairs("ARG"), **arguments}
    for word, rest in stage.steps:
        match word:
            case "WORKDIR":
                folder = _inside(rest, root)
                folder.mkdir(parents=True, exist_ok=True)
            case "ENV":
                env |= {name: value for name, _, value in (part.partition("=") for part in shlex.split(rest))}
            case "COPY":
                *sources, target = shlex.split(rest)
                for source in sources:
                    _copy(REPOSITORY / source, folder / target, patterns)
            case "RUN":
                command = filled(rest, given).replace("/opt/", f"{root}/opt/").replace("/src", f"{root}/src")
                done = subprocess.run(["sh", "-ec", command], cwd=folder, env=env, capture_output=True, text=True)
                if _UNREACHABLE.search(done.stderr):
                    raise NoIndex(done.stderr.strip().splitlines()[-1])
                assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"


def _inside(path: str, root: Path) -> Path:
    return root / path.removeprefix("/")


def _copy(source: Path, target: Path, patterns: list[str]) -> None:
    """Raises AssertionError where nothing of it would be sent to the engine."""
    assert source.exists(), f"{source} is copied and not there"
    files = [
        path for path in ([source] if source.is_file() else source.rglob("*")) if path.is_file() and is_sent(path, patterns)
    ]
    assert files, f"{source} is copied, and .dockerignore leaves nothing of it"
    for file in files:
        to = target / file.relative_to(source) if source.is_dir() else target / source.name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, to)
