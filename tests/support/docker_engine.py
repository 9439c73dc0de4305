"""A client of the Docker engine of this machine, where one answers."""

from __future__ import annotations

import gc
import warnings

import docker
from docker.errors import DockerException


def client() -> docker.DockerClient | str:
    """A client, or why there is none. (A client that cannot connect leaves its socket to the collector of garbage, which
    warns.)"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            found = docker.from_env()
            found.ping()
        except (DockerException, OSError) as error:
            reason = f"no Docker engine answers: {error}"
        else:
            return found
        gc.collect()
        return reason
