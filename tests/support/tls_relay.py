"""TLS in front of a plain server of a test: what comes encrypted goes on in clear text, and back."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any


class TlsRelay:
    """Listens on 127.0.0.1:``port`` with this certificate and passes bytes on to ``target``."""

    def __init__(self, cert: Path, key: Path, target: int) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(cert, key)

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                try:
                    with context.wrap_socket(self.request, server_side=True) as outer:
                        relay(outer, target)
                except OSError:
                    pass  # a client that does not trust us, or has gone: its own matter

        class Server(ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> TlsRelay:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._server.shutdown()
        self._server.server_close()


def relay(outer: socket.socket, target: int) -> None:
    with socket.create_connection(("127.0.0.1", target)) as inner:
        back = Thread(target=_pass, args=(inner, outer), daemon=True)
        back.start()
        _pass(outer, inner)
        back.join()


def _pass(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
