"""Compresses and decompresses single Zstandard frames (RFC 8878).

Python 3.14 has the format in its standard library; older versions need the extra `archive`.
"""

from __future__ import annotations

import sys

from lllm.events.concurrency.late_imports import importing
from lllm.events.errors import LogError, MissingExtra

_LEVEL = 9  # smaller by a tenth than level 3, and still faster than the log is read
_MISSING = (
    "Archives are compressed with Zstandard, which this Python lacks: pip install 'lllm[archive]'"
)


def compress(data: bytes) -> bytes:
    """Compress bytes to one frame that states its length and has a checksum.

    Args:
        data: The bytes.

    Returns:
        The frame.

    Raises:
        MissingExtra: The extra `archive` is not installed.
    """
    if sys.version_info >= (3, 14):
        from compression import zstd

        options = {
            zstd.CompressionParameter.compression_level: _LEVEL,
            zstd.CompressionParameter.checksum_flag: 1,
        }
        return zstd.compress(data, options=options)
    try:
        with importing():
            import zstandard
    except ImportError as error:
        raise MissingExtra(_MISSING) from error
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(data)


def decompress(frame: bytes, size: int) -> bytes:
    """Decompress one frame.

    Args:
        frame: The frame.
        size: The number of bytes that it must decompress to.

    Returns:
        The bytes.

    Raises:
        MissingExtra: The extra `archive` is not installed.
        LogError: The frame is damaged, or has another size.
    """
    if sys.version_info >= (3, 14):
        from compression import zstd

        try:
            # one byte more, so that a frame that is too long shows
            data = zstd.ZstdDecompressor().decompress(frame, max_length=size + 1)
        except zstd.ZstdError as error:
            raise LogError(f"a compressed part is damaged ({error})") from error
    else:
        try:
            with importing():
                import zstandard
        except ImportError as error:
            raise MissingExtra(_MISSING) from error
        try:
            if zstandard.frame_content_size(frame) != size:
                raise LogError("a compressed part has another length than the index says")
            data = zstandard.ZstdDecompressor().decompress(frame)
        except zstandard.ZstdError as error:
            raise LogError(f"a compressed part is damaged ({error})") from error
    if len(data) != size:
        raise LogError("a compressed part has another length than the index says")
    return data
