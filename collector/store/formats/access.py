r"""``clf`` and ``combined``: access logs of Apache, nginx and others.

    [vhost:port ]client ident user [time] "request" status size[ "referer" "user agent"][ more]

- Columns: ip_address, user_id, method, endpoint (the path without its query), status_code, response_size_bytes, user_agent,
  response_time_ms. Attributes: vhost, ident, query, protocol, referer, and what comes behind as ``rest``. ``-`` is nothing. The
  line is the message.
- The severity is that of the status: 500 and more are errors, 400 and more warnings.
- The time of a request, in seconds with a decimal point, may stand behind (nginx: ``$request_time``, ``rt=0.012``). Whole
  numbers there are left: Apache writes µs or seconds.
- Quotes: ``\"``, ``\x22`` and ``\\`` are resolved, and quotes within quotes are told by what has to stand behind the last one.
- A request that is none (``-``, a TLS handshake) leaves method and endpoint empty, and is kept as attribute ``request``.
- Times may be ISO 8601 (nginx: ``$time_iso8601``). A line of another form has the ``parse_error`` ``access_log``.

Two patterns: a strict one, and for what it does not take one that looks further, which costs thrice as much.
"""

from __future__ import annotations

from agent.text import forms
from collector.store.formats import tail, times
from collector.store.formats.cutting import literal

NAME = "access_log"
_BACKSLASH = "\\"
_REQUEST = r"^[A-Za-z_-]{1,20} \S"
_PROTOCOL = r" (HTTP/[0-9.]+)$"
_SECONDS = r'(?:^| )"?(?:(?:rt|request_time)=)?"?(\d{1,9}\.\d{1,9})"?(?: |$)'


def view(database: str) -> str:
    return tail.view(
        database,
        NAME,
        columns="zone_from, zone_shift",
        layers=[
            "if(isValidUTF8(line), line, toValidUTF8(line)) AS text",
            f"extractGroups(text, {literal(forms.ACCESS)}) AS strict",
            f"if(empty(strict), extractGroups(text, {literal(forms.ACCESS_ODD)}), strict) AS groups",
            f"""arrayElement(groups, 5) AS time_text, {_unescaped("arrayElement(groups, 6)")} AS request,
toUInt16OrZero(arrayElement(groups, 7)) AS status, arrayElement(groups, 8) AS size, trimLeft(arrayElement(groups, 11)) AS rest,
{_unescaped("arrayElement(groups, 9)")} AS referer, {_unescaped("arrayElement(groups, 10)")} AS client""",
            f"if(match(request, {literal(_REQUEST)}), substringIndex(request, ' ', 1), '') AS verb",
            f"if(verb = '', '', extract(request, {literal(_PROTOCOL)})) AS protocol",
            """if(verb = '', '', substring(request, length(verb) + 2,
length(request) - length(verb) - 1 - if(protocol = '', 0, length(protocol) + 1))) AS target""",
            f"""substringIndex(target, '?', 1) AS place, match(time_text, {literal(forms.ACCESS_TIME)}) AS usual,
concat(substring(time_text, 8, 4), '-', {times.month("substring(time_text, 4, 3)")}, '-', substring(time_text, 1, 2), ' ',
    substring(time_text, 13)) AS iso_text""",
            f"""if(usual, {times.moment("iso_text")}, {times.usual("time_text")}) AS wall,
multiIf(empty(zone_from), 1, usual, substring(time_text, -5, 1) IN ('+', '-'), {times.zoned("time_text")}) AS has_zone,
multiIf(status >= 500, 'error', status >= 400, 'warning', '') AS word,
arrayFilter(pair -> pair.2 NOT IN ('', '-'), [
    ('vhost', arrayElement(groups, 1)), ('ident', arrayElement(groups, 3)), ('request', if(verb = '', request, '')),
    ('query', substring(target, length(place) + 2)), ('protocol', protocol),
    ('referer', referer), ('rest', rest)]) AS others""",
            f"{times.own('has_zone')[0]}, others.1 AS names",
        ],
        message="line",
        parse_error="multiIf(empty(groups), 'access_log', isNull(own), 'time', '')",
        more={
            "endpoint": "place",
            "method": "verb",
            "user_id": _said("arrayElement(groups, 4)"),
            "ip_address": _said("arrayElement(groups, 2)"),
            "user_agent": _said("client"),
            "status_code": "status",
            "response_time_ms": f"toFloat64OrZero(extract(rest, {literal(_SECONDS)})) * 1000",
            "response_size_bytes": "toUInt64OrZero(size)",
            "zero_metrics": "CAST(if(size = '0', ['response_size_bytes'], []), 'Array(LowCardinality(String))')",
        },
    )


def _said(text: str) -> str:
    return f"if({text} = '-', '', {text})"


def _unescaped(text: str) -> str:
    plain = text
    for escaped, meant in (('\\"', '"'), ("\\x22", '"'), ("\\\\", "\\")):
        plain = f"replaceAll({plain}, {literal(escaped)}, {literal(meant)})"
    return f"if(position({text}, {literal(_BACKSLASH)}) = 0, {text}, {plain})"
