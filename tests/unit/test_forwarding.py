"""Who is behind a proxy, as far as trusted ones vouch for it."""

import pytest

from collector.serving.forwarding import FORWARDED, X_FORWARDED_FOR, Origin, Proxies

NETWORKS = ("10.0.0.0/8", "fd00::/8")
PROXY = "10.0.0.1"


def origin(*values: str, peer: str = PROXY, header: str = X_FORWARDED_FOR, protos: tuple[str, ...] = ()) -> Origin:
    return Proxies(NETWORKS, header).origin(peer, "http", values, protos)


@pytest.mark.parametrize(
    ("values", "address"),
    [
        (("1.2.3.4",), "1.2.3.4"),
        (("6.6.6.6, 1.2.3.4",), "1.2.3.4"),
        (("6.6.6.6, 1.2.3.4, 10.9.9.9",), "1.2.3.4"),
        (("6.6.6.6", "1.2.3.4"), "1.2.3.4"),
        (("10.1.1.1, 10.2.2.2",), "10.1.1.1"),
        (("1.2.3.4:5678",), "1.2.3.4"),
        (("[2001:db8::1]:443",), "2001:db8::1"),
        (("2001:DB8::1",), "2001:db8::1"),
        (("::ffff:1.2.3.4",), "1.2.3.4"),
        (("1.2.3.4, fd00::5",), "1.2.3.4"),
        (("1.2.3.4, unknown",), PROXY),
        (("1.2.3.4, nonsense, 10.9.9.9",), "10.9.9.9"),
        ((", , ",), PROXY),
        ((), PROXY),
        ((",".join(["1.2.3.4"] + ["10.1.1.1"] * 100),), "10.1.1.1"),
    ],
)
def test_the_first_from_the_right_that_is_no_trusted_proxy_is_the_client(values: tuple[str, ...], address: str) -> None:
    assert origin(*values).address == address


def test_whoever_is_no_trusted_proxy_is_not_believed() -> None:
    assert origin("1.2.3.4", peer="9.9.9.9", protos=("https",)) == Origin("9.9.9.9", "http")
    assert Proxies((), X_FORWARDED_FOR).origin(PROXY, "http", ("1.2.3.4",), ("https",)) == Origin(PROXY, "http")


def test_a_peer_without_an_address_is_not_believed() -> None:
    assert origin("1.2.3.4", peer="") == Origin("", "http")


@pytest.mark.parametrize(
    ("protos", "scheme"),
    [(("https",), "https"), (("http, HTTPS",), "https"), (("https", "http"), "http"), (("gopher",), "http")],
)
def test_the_scheme_is_what_the_nearest_proxy_says(protos: tuple[str, ...], scheme: str) -> None:
    assert origin("1.2.3.4", protos=protos) == Origin("1.2.3.4", scheme)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('for=6.6.6.6;proto=http, for="1.2.3.4:99";proto=https;by=10.0.0.1', Origin("1.2.3.4", "https")),
        ('For="[2001:db8::1]:4711"', Origin("2001:db8::1", "http")),
        ("for=1.2.3.4;proto=https, for=10.3.3.3;proto=http", Origin("1.2.3.4", "https")),
        ('for="6.6.6.6, for=7.7.7.7", for=1.2.3.4', Origin("1.2.3.4", "http")),
        ("for=_hidden;proto=https", Origin(PROXY, "http")),
        ('for="1.2.3.4', Origin(PROXY, "http")),
        ("proto=https", Origin(PROXY, "http")),
    ],
)
def test_the_standard_header_is_read_by_its_grammar(value: str, expected: Origin) -> None:
    assert origin(value, header=FORWARDED) == expected
