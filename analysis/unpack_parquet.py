"""Unpacks a Parquet file, from standard input to an IPC stream, in a process of its own that may not grow.

    python -P unpack_parquet.py LARGEST

Some damage makes polars abort the process that it runs in, past any exception, and a small file can hold more than
any memory. A file of more than LARGEST bytes, unpacked, is refused with exit code `TOO_LARGE`, and no more memory
is taken than such a file would need, whatever the file says of itself. `analysis.table_files` reads with it.
"""

from __future__ import annotations

import contextlib
import io
import resource
import sys

import polars as pl

TOO_LARGE = 3
CELL = 8
"""Bytes of a number."""
COPIES = 4
"""The file, its columns, the stream, and what decoding needs meanwhile."""
ITSELF = 2**29
"""Bytes of polars without any table."""


def unpack(data: bytes, largest: int) -> memoryview | None:
    """The stream, text written out in full; None where there is more than `largest` bytes of it."""
    found = pl.scan_parquet(io.BytesIO(data))
    rows = found.select(pl.len()).collect().item()
    if rows * len(found.collect_schema()) * CELL > largest:
        return None
    stream = io.BytesIO()
    found.collect().write_ipc_stream(stream, compat_level=pl.CompatLevel.oldest())
    return None if stream.tell() > largest else stream.getbuffer()


def main(largest: int) -> int:
    room = COPIES * largest + ITSELF
    with contextlib.suppress(OSError, ValueError):  # a system that cannot bound it, or has bounded it already
        resource.setrlimit(resource.RLIMIT_DATA, (room, room))
    stream = unpack(sys.stdin.buffer.read(), largest)
    if stream is None:
        return TOO_LARGE
    sys.stdout.buffer.write(stream)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
