"""The page's files, read once and served from memory.

- ``/`` is the page for browsers, and what it always was for programs: a list of the API.
- No file of it has a script or a style inside, and the Content-Security-Policy lets a browser run nothing else: content of
  logs that found a way into the page's text would not run. Nothing is loaded from anywhere else, and nobody may frame it.
- The API key is the tab's own (sessionStorage) and goes with each request as a header: there is no cookie, so no other site
  can have a browser ask in a user's name.
"""

from __future__ import annotations

import gzip
import hashlib
from importlib import resources
from typing import NamedTuple

from aiohttp import web

from collector.serving import operations
from collector.tenants import caller

PATH = "/page/{name:[a-z/-]+\\.(?:js|css|svg)}"
POLICY = "; ".join((
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'",
    "font-src 'self'",     "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
))  # fmt: skip
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Asked each time, and answered with nothing where it is the same: a new version counts at once.
    "Cache-Control": "no-cache",
}
INDEX = "index.html"
_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


class Asset(NamedTuple):
    body: bytes
    packed: bytes
    """The same with gzip."""
    kind: str
    tag: str


def load() -> dict[str, Asset]:
    """Every file of the page by its name, such as ``vendor/preact-htm.js``."""
    found: dict[str, Asset] = {}
    folder = resources.files("collector.page") / "static"
    for place in (folder, folder / "vendor"):
        for file in place.iterdir():
            kind = _TYPES.get(file.name.rpartition(".")[2])
            if kind is not None:
                body = file.read_bytes()
                name = file.name if place is folder else f"vendor/{file.name}"
                tag = hashlib.sha256(body).hexdigest()[:16]
                found[name] = Asset(body, gzip.compress(body, 9, mtime=0), kind, f'"{tag}"')
    return found


ASSETS = web.AppKey("ASSETS", dict[str, Asset])


async def get_root(request: web.Request) -> web.StreamResponse:
    if "text/html" not in request.headers.get("Accept", ""):
        return await operations.get_root(request)
    return _served(request, INDEX)  # whatever the query says: it is the page's, and the page reads it


async def get_asset(request: web.Request) -> web.StreamResponse:
    caller.anyone(request)
    name = request.match_info["name"]
    if name not in request.app[ASSETS]:
        raise web.HTTPNotFound
    return _served(request, name)


def _served(request: web.Request, name: str) -> web.Response:
    asset = request.app[ASSETS][name]
    headers = {**HEADERS, "ETag": asset.tag, "Vary": "Accept, Accept-Encoding"}
    if request.headers.get("If-None-Match") == asset.tag:
        return web.Response(status=304, headers=headers)
    body = asset.body
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"], body = "gzip", asset.packed
    return web.Response(body=body, content_type=asset.kind, charset="utf-8", headers=headers)
