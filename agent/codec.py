"""zstd, from the standard library where it has it (3.14), else from its backport. The one place that knows which."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdCompressor, ZstdDecompressor, ZstdError
else:
    from backports.zstd import DecompressionParameter, ZstdCompressor, ZstdDecompressor, ZstdError

__all__ = ["LEVEL", "ZstdError", "compress", "compress_aside", "decompress", "zstd_decoder"]

LEVEL = 1
"""A log line costs 8 times less to send at level 1; higher levels cost more CPU than the agent spends on all else."""

_compressor = ZstdCompressor(level=LEVEL)


def compress(data: bytes | bytearray | memoryview) -> bytes:
    """One zstd frame. The context is reused: it is 1 MiB, and making one costs more than a small block. One thread only."""
    return _compressor.compress(data, ZstdCompressor.FLUSH_FRAME)


def compress_aside(data: bytes) -> bytes:
    """One zstd frame, from any thread: for what is rarely made."""
    return ZstdCompressor(level=LEVEL).compress(data, ZstdCompressor.FLUSH_FRAME)


def decompress(frame: bytes | memoryview, limit: int) -> bytes:
    """The content of one whole frame of at most ``limit`` bytes, which is never exceeded in memory.

    Raises:
        ZstdError: damaged, cut short, longer than ``limit`` or followed by other bytes.
    """
    decompressor = ZstdDecompressor()
    data = decompressor.decompress(frame, max_length=limit)
    if not decompressor.eof or decompressor.unused_data:
        raise ZstdError(f"not one whole frame of at most {limit} bytes")
    return data


def zstd_decoder() -> ZstdDecompressor:
    """For one frame of somebody else's, piece by piece. A frame that asks for more than 128 MiB of memory is an error."""
    return ZstdDecompressor(options={DecompressionParameter.window_log_max: 27})
