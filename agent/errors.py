"""Kinds of error, by whose turn it is. Every message says what, where, and the mend."""

from __future__ import annotations

OK, FAILED, USAGE = 0, 1, 2
"""How a command ends: fine, something is wrong and was said, the command line or the configuration is wrong."""


class AgentError(Exception):
    """Something a person has to know about; its text is for them."""


class ConfigError(AgentError):
    """The configuration cannot be used. Names every fault that was found."""


class StateRefused(AgentError):
    """The state folder cannot be used: another agent has it, a newer one wrote it, or its permissions are wrong."""


class StateAway(StateRefused):
    """The state folder cannot be used now: another mount, mode or owner, or no handles left. It may come back."""


class StorageFailed(AgentError):
    """A write or sync of the state folder failed. The agent starts again from what is on disk."""


class StorageFull(StorageFailed):
    """The disk takes nothing now: it is full, read-only, away. Nothing was changed; the sources hold the data until it does."""
