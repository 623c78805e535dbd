"""Where the members of a tar begin: read once from its headers, then kept in the user's cache.

An index is a table with a row for each regular file, in the order of the tar:

    name    string        the member's name, escaped by the caller's `to_text`
    offset  int64         where its bytes begin
    size    int64         how many they are
    text    large_string  what the caller's `text_of` made of the bytes of small text members; null for all others

It is kept as `$XDG_CACHE_HOME/locloc/tars/KEY.parquet` (`~/.cache` without that variable), and made again when the tar
has another size or time (at a URL: another ETag), or when the rules of a release change. Nothing but time is lost
with it.
"""

import hashlib
import json
import os
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import CatalogError
from .stream import open_stream, stamp_of

SCHEMA = pa.schema([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("text", pa.large_string())])
_METADATA = b"locloc"


@dataclass(frozen=True)
class IndexRules:
    """What an index holds besides places.

    revision  goes into a kept index: another one makes it anew
    to_text   a member's name as the `os` functions give it > text
    text_of   (name, bytes) of a member that `is_text` chose > what is kept. Raises ValueError with the reason
    """

    revision: str
    to_text: Callable[[str], str]
    is_text: Callable[[str], bool]
    text_of: Callable[[str, bytes], str]


def index_of(tar: Path | str, rules: IndexRules) -> pa.Table:
    """The index of a tar, from the cache where it is there and fresh; else it is made, and kept if that is possible.

    tar  an absolute path, or a URL

    Raises CatalogError: no tar, compressed, cut off, a link among its members, or a text that `text_of` refuses.
    ImageError: there is no such file. UnreachableError: disk or network.
    """
    size, mark = stamp_of(tar)
    stamp = json.dumps({"tar": os.fspath(tar), "size": size, "mark": mark, "rules": rules.revision}).encode()
    kept = _cache_folder() / f"{hashlib.blake2b(os.fsencode(tar), digest_size=16).hexdigest()}.parquet"
    if (table := _read_kept(kept, stamp)) is not None:
        return table
    table = _read_headers(tar, size, rules)
    if mark:  # else a change could not be noticed
        _keep(kept, table, stamp)
    return table


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "locloc", "tars")


def _read_kept(file: Path, stamp: bytes) -> pa.Table | None:
    """None for an index that is not there, is of another tar, or is broken."""
    try:
        with pq.ParquetFile(file) as table:
            if (table.schema_arrow.metadata or {}).get(_METADATA) != stamp:
                return None
            return table.read(use_threads=False)
    except (OSError, pa.ArrowException):
        return None


def _keep(file: Path, table: pa.Table, stamp: bytes) -> None:
    """Several processes may do so at once. A cache that cannot be written only costs time."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(prefix=f"{file.stem}.", dir=file.parent)
        os.close(descriptor)
        try:
            pq.write_table(table.replace_schema_metadata({_METADATA: stamp}), part, compression="zstd")
            os.replace(part, file)
        except BaseException:
            os.unlink(part)
            raise


def _read_headers(tar: Path | str, size: int, rules: IndexRules) -> pa.Table:
    shown = rules.to_text(os.fspath(tar))
    names: list[str] = []
    offsets: list[int] = []
    sizes: list[int] = []
    texts: list[str | None] = []
    last = "its beginning"
    with open_stream(tar, size) as stream:
        _refuse_compressed(stream.peek(6)[:6], shown)
        try:
            # errors: names that are no UTF-8 keep their bytes, as file names do
            with tarfile.TarFile(fileobj=stream, encoding="utf-8", errors="surrogateescape") as members:
                while (member := members.next()) is not None:
                    vars(members)["members"] = []  # else it keeps them all
                    name = rules.to_text(member.name)
                    last = f"member {name!r}"
                    if member.isdir():
                        continue
                    if not member.isreg() or member.sparse is not None:
                        raise CatalogError(
                            f"{shown}: {last} is no plain file but a link or device; pack the tar with "
                            "`tar --dereference --hard-dereference`"
                        )
                    if member.offset_data + member.size > size:
                        raise _cut_off(shown, last)
                    text = None
                    if rules.is_text(name):
                        stream.seek(member.offset_data)
                        try:
                            text = rules.text_of(name, stream.read(member.size))
                        except ValueError as error:
                            raise CatalogError(f"{shown}: {last}: {error}") from None
                    names.append(name)
                    offsets.append(member.offset_data)
                    sizes.append(member.size)
                    texts.append(text)
                stream.seek(members.offset)
                if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise _cut_off(shown, last)
        except tarfile.TarError as error:
            if "unexpected end" in str(error) or "truncated" in str(error):
                raise _cut_off(shown, last) from None
            raise CatalogError(f"{shown} is no tar, or is damaged after {last}: {error}") from None
    return pa.table([names, offsets, sizes, texts], schema=SCHEMA)


def _refuse_compressed(begin: bytes, shown: str) -> None:
    for mark, name, command in (
        (b"\x1f\x8b", "gzip", "gunzip"),
        (b"BZh", "bzip2", "bunzip2"),
        (b"\xfd7zXZ", "xz", "unxz"),
        (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
    ):
        if begin.startswith(mark):
            raise CatalogError(
                f"{shown} is compressed by {name}, so that no member can be read by itself; `{command}` it first "
                "(images are compressed already)"
            )


def _cut_off(shown: str, last: str) -> CatalogError:
    return CatalogError(f"{shown} is cut off: it ends after {last}, without the empty block that closes a tar")
