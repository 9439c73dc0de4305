"""Certificates for a test, made by openssl: an authority, a server on 127.0.0.1, a client."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Authority:
    """One authority; its files lie in ``folder``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.ca = folder / "ca.pem"
        self._key = folder / "ca.key"
        name = f"/CN=authority {folder.name}"
        _openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", name,
            "-keyout", str(self._key), "-out", str(self.ca), "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip

    def issue(self, name: str, *, host: str = "IP:127.0.0.1") -> tuple[Path, Path]:
        """A certificate and its key."""
        cert, key, request = (self.folder / f"{name}.{kind}" for kind in ("pem", "key", "csr"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={host}\nauthorityKeyIdentifier=keyid\n")
        _openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
            "-keyout", str(key), "-out", str(request),
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", str(request), "-CA", str(self.ca), "-CAkey", str(self._key), "-CAcreateserial",
            "-days", "2", "-extfile", str(extensions), "-out", str(cert),
        )  # fmt: skip
        return cert, key


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
