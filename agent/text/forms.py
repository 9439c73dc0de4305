"""How lines of well-known formats look, for agent and collector: regular expressions that Python and RE2 read alike. Pure.

The engine takes blocks apart with them (`collector.store.formats`); the agent reads an event's time with them when it compares
its files with the store (`agent.text.eventtime`). A dot matches a newline, too, and classes mean ASCII.
"""

from __future__ import annotations

ACCESS = (
    r'^()([^ "]+) ([^ "]+) ([^ "]+) \[([^\]"]+)\] "([^"\\]*)" ([0-9]{3}) ([0-9]+|-)'
    r'(?: "([^"\\]*)" "([^"\\]*)")?((?: [^" ]+(?:"[^"]*")?| "[^"]*")*)$'
)
ACCESS_ODD = (
    r'^(?:(\S+:\d+) )?(\S+) (\S+) (.*?) \[([^\]]+)\] "(.*?)" ([0-9]{3}|-) ([0-9]+|-)'
    r'(?: "(.*?)" "(.*?)")?((?: [^" ]+(?:"[^"]*")?| "[^"]*")*)\s*$'
)
"""Quotes within quotes, vhosts, users with blanks: what `ACCESS` does not take. It costs thrice as much."""
ACCESS_TIME = r"^\d\d/[A-Z][a-z]{2}/\d{4}:([01]\d|2[0-3]):[0-5]\d:[0-6]\d(\.\d{1,9})?( [+-]\d{4})?$"

SYSLOG_NEW = r"^<\d{1,3}>\d{1,2} \S"
RFC_5424 = (
    r"^(<(\d{1,3})>\d{1,2} (\S+) (\S+) (\S+) (\S+) (\S+) "
    r'(-|(?:\[[^ \]="]+(?: +[^ \]="]+="(?:[^"\\]|\\.)*")*\])+)(?: \x{FEFF}?|$))'
)
RFC_3164 = (
    r"^((?:<(\d{1,3})>)?(?:((?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 0-3]\d(?: \d{4})? "
    r"(?:[01]\d|2[0-3]):[0-5]\d:[0-6]\d(?:\.\d{1,9})?)"
    r"|(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)?))"
    r"(?: ([^\s\[\]]*[^\s\[\]:]))?(?: ([^\s:\[\]]+)(?:\[([^\]\s]*)\])?:)?(?: |$))"
)
HAS_YEAR = r"^.{7}\d{4} "
"""Of a time of RFC 3164."""

KLOG = (
    r"^(([IWEF])(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01]) ((?:[01]\d|2[0-3]):[0-5]\d:[0-6]\d\.\d{1,9}) +(\d+) "
    r"([^\s\]]+:\d+)\] ?)"
)

LOGFMT = r"^\s*[^\s=\"]+="
LOGFMT_PAIR = r'([^\s="]+)(?:(=)(?:"((?:[^"\\]|\\.)*)"|(\S*)))?'
