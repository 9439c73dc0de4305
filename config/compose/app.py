"""app.py FILE: an app that writes a few JSON lines a second, and rotates its log as apps do."""

from __future__ import annotations

import json
import logging
import logging.handlers
import random
import sys
import time
from datetime import UTC, datetime
from typing import Final

ROUTES: Final = ("/cart", "/orders", "/orders/17", "/login", "/search")


def main(path: str, *, lines: int | None = None, pause_s: float = 0.2) -> None:
    """Until it is ended, or ``lines`` were written."""
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=1 << 20, backupCount=3)
    log = logging.getLogger("app")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    number = 0
    while lines is None or number < lines:
        number += 1
        failed = random.random() < 0.03
        said = {
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": "error" if failed else "info",
            "message": f"payment of order {number} refused" if failed else f"order {number} placed",
            "number": number,
            "path": random.choice(ROUTES),
            "status_code": 502 if failed else 200,
            "took_ms": round(random.lognormvariate(3, 1), 1),
        }
        log.info("%s", json.dumps(said))
        time.sleep(pause_s)


if __name__ == "__main__":
    main(sys.argv[1])
