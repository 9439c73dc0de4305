"""The floor under the agent's cost: read a file and compress it, in a process that does nothing else.

``python -m tests.bench.codec FILE`` prints the CPU seconds of that as JSON, without those of starting Python.
"""

from __future__ import annotations

import json
import os
import sys
import time

from agent.codec import compress
from agent.text.blocks import BLOCK_BYTES


def main(path: str) -> None:
    buffer = memoryview(bytearray(BLOCK_BYTES))
    size = compressed = 0
    fd = os.open(path, os.O_RDONLY)
    began_s = time.process_time()
    while length := os.readv(fd, [buffer]):
        size += length
        compressed += len(compress(buffer[:length]))
    used_s = time.process_time() - began_s
    os.close(fd)
    print(json.dumps({"cpu_s": used_s, "bytes": size, "compressed_bytes": compressed}))


if __name__ == "__main__":
    main(sys.argv[1])
