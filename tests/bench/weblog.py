"""The access log of a made-up web site, with what makes real ones small: the same visitors, pages and browsers again and again.

The same seed and number of lines give the same bytes. Lines are in the order of their time, about `LINES_PER_S` of them a
second. Who asks, in shares of the requests:

- Visitors, about three quarters. A session has pages (geometric, `PAGES` in the mean) with a pause between them (lognormal,
  `PAUSE_S` in the median); each page is of the site's 20,000 by Zipf's law, or one that is linked from the last. With it come
  its own pictures, and with the first page the site's scripts and styles, which a returning browser has (or asks for: 304).
  The referer is the page, or where a first page was found. A quarter of the sessions are of visitors who were here before.
- Apps that call an interface with numbers and random IDs, a tenth; crawlers, from few addresses, which take any page, a tenth;
  a probe every five seconds; and scanners for holes that are not there.

Addresses: 3,000 networks by Zipf's law, any host in them. Browsers: 8 platforms, 24 versions, by Zipf's law. Sizes: a file has
one, a page varies about its own. A fifth of the pages and of the pictures that are asked for again are 304 with no bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import accumulate
from random import Random
from typing import NamedTuple

SEED = 1
LINES_PER_S = 30.0
PAGES = 4.0
PAUSE_S = 25.0
SITE = "https://www.shop.example"
_START_S = 12 * 3600
_WORDS = (
    "red", "blue", "green", "black", "white", "cotton", "linen", "leather", "silk", "wool", "shirt", "dress", "jacket",
    "shoes", "boots", "hat", "scarf", "belt", "bag", "watch", "summer", "winter", "spring", "autumn", "kids", "women", "men",
    "sport", "outdoor", "city", "classic", "modern", "slim", "wide", "long", "short", "light", "warm", "rain", "running",
)  # fmt: skip
_PLATFORMS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{v}.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS {w}_{x} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{w}.{x} "
    "Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{v}.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{v}.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{w}.{x} Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{v}.0.0.0 "
    "Safari/537.36 Edg/{v}.0.0.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:{v}.0) Gecko/20100101 Firefox/{v}.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:{v}.0) Gecko/20100101 Firefox/{v}.0",
)
_CRAWLERS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
)
_FOUND = (
    ("-",) * 4
    + ("https://www.google.com/",) * 5
    + ("https://www.bing.com/", "https://duckduckgo.com/", "https://t.co/aB3dE5fG")
)
_HOLES = (
    "/wp-login.php",
    "/.env",
    "/xmlrpc.php",
    "/phpmyadmin/index.php",
    "/.git/config",
    "/admin/config.php",
    "/vendor/phpunit",
)


class Zipf:
    """Numbers below ``n``; the k-th as often as 1/k."""

    def __init__(self, n: int, random: Random, exponent: float = 1.0) -> None:
        self._weights = list(accumulate(1 / k**exponent for k in range(1, n + 1)))
        self._numbers = range(n)
        self._random = random

    def __call__(self) -> int:
        return self._random.choices(self._numbers, cum_weights=self._weights)[0]


class Page(NamedTuple):
    path: str
    size: int
    pictures: list[tuple[str, int]]
    links: list[int]


class Client(NamedTuple):
    address: str
    browser: str


class Asked(NamedTuple):
    """One line, but for its time; ``referer`` and ``browser`` are those of the combined format."""

    client: Client
    request: str
    status: int
    size: int
    referer: str


class Site:
    def __init__(self, random: Random) -> None:
        self._random = random
        self._popular = Zipf(20_000, random)
        self._network = Zipf(3000, random, 0.8)
        self._networks = [f"{random.randrange(2, 223)}.{random.randrange(256)}.{random.randrange(256)}" for _ in range(3000)]
        self._platform, self._version = Zipf(len(_PLATFORMS), random, 0.9), Zipf(24, random, 1.2)
        self._pages = [self._page(n) for n in range(20_000)]
        self._files = [(f"/assets/{name}.{random.getrandbits(32):08x}.{kind}", random.randrange(900, 300_000))
                       for name, kind in (("app", "css"), ("theme", "css"), ("vendor", "js"), ("app", "js"), ("cart", "js"),
                                          ("logo", "svg"), ("sans", "woff2"), ("sprites", "png"))]  # fmt: skip
        self._known: list[Client] = []
        self._crawlers = [Client(f"66.249.{64 + n}.{random.randrange(256)}", _CRAWLERS[n % 4]) for n in range(24)]
        self._apps = [f"ShopApp/7.{n}.{random.randrange(9)} (iOS {17 + n % 2}; iPhone1{n % 6},{1 + n % 3})" for n in range(20)]

    def _page(self, n: int) -> Page:
        random = self._random
        slug = "-".join(random.sample(_WORDS, random.randrange(2, 5)))
        kind = random.random()
        path = (
            f"/products/{slug}-{10_000 + n}"
            if kind < 0.75
            else f"/guides/{2019 + n % 8}/{slug}"
            if kind < 0.9
            else f"/c/{slug}"
        )
        pictures = [
            (f"/media/products/{10_000 + n}/{k}_{random.choice((320, 640, 1200))}.webp", int(random.lognormvariate(10, 0.8)))
            for k in range(random.randrange(6))
        ]
        links = [min(int(random.paretovariate(0.4)), 10**9) % 20_000 for _ in range(8)]
        return Page(path, int(random.lognormvariate(9.5, 0.5)), pictures, links)

    def _address(self) -> str:
        return f"{self._networks[self._network()]}.{self._random.randrange(1, 255)}"

    def visitor(self) -> tuple[Client, bool]:
        """Who comes, and whether for another time."""
        if self._known and self._random.random() < 0.25:
            return self._known[self._random.randrange(len(self._known))], True
        w, v = self._version(), self._version()
        browser = _PLATFORMS[self._platform()].format(v=141 - v, w=18 - w // 5, x=6 - w % 5)
        client = Client(self._address(), browser)
        if len(self._known) < 50_000:
            self._known.append(client)
        else:
            self._known[self._random.randrange(50_000)] = client
        return client, False

    def session(self) -> Iterator[tuple[float, Asked]]:
        """Pause before it, and what is asked."""
        random = self._random
        client, again = self.visitor()
        referer = random.choice(_FOUND)
        number = self._popular()
        first = True
        while True:
            page = self._pages[number]
            path = page.path
            if random.random() < 0.06:
                path = f"/search?q={'+'.join(random.sample(_WORDS, random.randrange(1, 4)))}&page={random.randrange(1, 4)}"
            pause = 0.0 if first else random.lognormvariate(0, 0.9) * PAUSE_S
            yield pause, self._got(client, path, int(page.size * random.gauss(1, 0.04)), referer, 0.03)
            referer = SITE + path
            if first:
                for name, size in self._files:
                    if not again or random.random() < 0.3:
                        yield random.expovariate(8), self._got(client, name, size, referer, 0.6 if again else 0.02)
            for name, size in page.pictures:
                yield random.expovariate(12), self._got(client, name, size, referer, 0.2 if again else 0.05)
            if random.random() < 0.08:
                yield 1.0, Asked(client, "POST /cart/items HTTP/1.1", 201, random.randrange(180, 260), referer)
            if random.random() < 1 / PAGES:
                return
            number = random.choice(page.links) if random.random() < 0.7 else self._popular()
            first = False

    def _got(self, client: Client, path: str, size: int, referer: str, unchanged: float) -> Asked:
        dice = self._random.random()
        if dice < unchanged:
            return Asked(client, f"GET {path} HTTP/1.1", 304, 0, referer)
        if dice > 0.985:
            status = self._random.choice((301, 302, 404, 404, 499, 500, 502))
            return Asked(client, f"GET {path} HTTP/1.1", status, 162 if status < 499 else 0, referer)
        return Asked(client, f"GET {path} HTTP/1.1", 200, size, referer)

    def crawl(self) -> Iterator[tuple[float, Asked]]:
        client = self._random.choice(self._crawlers)
        for _ in range(self._random.randrange(5, 60)):
            page = self._pages[self._random.randrange(20_000)]
            size = int(page.size * self._random.gauss(1, 0.04))
            yield self._random.expovariate(0.3), self._got(client, page.path, size, "-", 0.1)

    def app(self) -> Iterator[tuple[float, Asked]]:
        random = self._random
        client = Client(self._address(), random.choice(self._apps))
        user = random.randrange(400_000)
        for _ in range(random.randrange(3, 25)):
            verb, path, status = random.choice(
                (("GET", f"/api/v2/users/{user}/orders?page={random.randrange(1, 5)}", 200),
                 ("GET", f"/api/v2/products/{10_000 + self._popular()}", 200),
                 ("GET", f"/api/v2/stock?store={random.randrange(400)}", 200),
                 ("POST", f"/api/v2/events/{random.getrandbits(64):016x}", 202),
                 ("PUT", f"/api/v2/users/{user}/basket", 200))
            )  # fmt: skip
            size = 0 if verb == "POST" else int(random.lognormvariate(7, 0.7))
            yield random.expovariate(0.2), Asked(client, f"{verb} {path} HTTP/2.0", status, size, "-")

    def scan(self) -> Iterator[tuple[float, Asked]]:
        client = Client(self._address(), "Mozilla/5.0 zgrab/0.x")
        for path in self._random.sample(_HOLES, 4):
            yield 0.4, Asked(client, f"GET {path} HTTP/1.1", 404, 162, "-")

    def probe(self) -> Iterator[tuple[float, Asked]]:
        client = Client("10.0.3.7", "kube-probe/1.30")
        while True:
            yield 5.0, Asked(client, "GET /healthz HTTP/1.1", 200, 2, "-")


def web_log(lines: int, *, combined: bool, seed: int = SEED) -> Iterator[str]:
    """Lines without their ends; not ``combined``: in the common format."""
    random = Random(seed)
    site = Site(random)
    kinds = (site.session, site.crawl, site.app, site.scan)
    weights = (70, 4, 10, 1.5)
    per_arrival = sum(weight * of for weight, of in zip(weights, (22, 32, 14, 4), strict=True)) / sum(weights)
    waiting: list[tuple[float, int, Asked | None, Iterator[tuple[float, Asked]]]] = []
    count = 0

    def go_on(now: float, asked: Iterator[tuple[float, Asked]]) -> None:
        nonlocal count
        following = next(asked, None)
        if following is not None:
            count += 1
            heappush(waiting, (now + following[0], count, following[1], asked))

    go_on(0.0, site.probe())
    arrival = 0.0
    for _ in range(lines):
        while not waiting or waiting[0][0] >= arrival:
            go_on(arrival, random.choices(kinds, weights)[0]())
            arrival += random.expovariate(LINES_PER_S / per_arrival)
        now, _, asked, others = heappop(waiting)
        assert asked is not None
        yield _line(asked, now, combined=combined)
        go_on(now, others)


def _line(asked: Asked, at_s: float, *, combined: bool) -> str:
    second = _START_S + int(at_s)
    day, rest = divmod(second, 86_400)
    time = f"{12 + day:02d}/Oct/2026:{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d} +0000"
    common = f'{asked.client.address} - - [{time}] "{asked.request}" {asked.status} {asked.size}'
    return f'{common} "{asked.referer}" "{asked.client.browser}"' if combined else common
