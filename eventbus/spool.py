"""Events kept on this machine's disk until Redis has them: the files, and nothing about when to send.

A root directory holds one directory for each process that spools, and `aside/` for what can't be sent. A process owns a
directory by a lock (flock) on it, which the kernel drops when the process dies, however it dies; whoever comes next
takes the directory over with what is in it. The root has to be on a local file system.

A spool is a row of segments, each a row of records: mark and version, length, CRC-32, then a line of JSON and the
event's wire. The checksum is zlib's CRC-32: it is in the standard library, and a torn or rotten record escapes either
it or CRC-32C in one of 4 billion cases. Everything here blocks: call it in a thread. `eventbus.spooling` has the
policy.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import struct
import threading
import time
import uuid
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from pydantic_core import from_json, to_json

from eventbus.errors import Full, Misconfigured, OutcomeUnknown, Unavailable, UnknownVersion
from eventbus.redis.shard import Letter

MOST_BYTES = 256 * 1024 * 1024
SEGMENT_BYTES = 8 * 1024 * 1024
"""A segment is deleted as a whole, and read into memory as a whole."""

VERSION = 1
"""Of a record. Raise it when Letter gets a field that an older program must not overlook."""

MARK = b"\xffEB"
"""Begins a record. The byte 0xFF occurs in no UTF-8 text, so no event can hold what looks like a record."""

ASIDE = "aside"
_HEAD = struct.Struct(">3sBII")  # mark, version, length of the payload, checksum of version, length and payload
_PLACE = struct.Struct(">QQI")  # segment, offset, checksum of both
_POSITION = "position"
_SEGMENT = re.compile(r"[0-9]{16}")
_SPOOL = re.compile(r"[0-9a-f]{32}")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNREADABLE = (errno.EIO, errno.ENOENT)
"""What no waiting mends: a bad sector, and a file that somebody deleted."""

_log = structlog.get_logger("eventbus.spool")


class Entry(NamedTuple):
    """A spooled letter.

    accepted_ms  when it was spooled, by this machine's clock (epoch)
    unsure       Redis may have stored it already
    end          where its record ends in its segment
    """

    letter: Letter
    accepted_ms: int
    unsure: bool
    end: int


class Stretch(NamedTuple):
    """Bytes of a segment: a record with its payload, or bytes that are none; `is_torn` if those look unfinished."""

    start: int
    end: int
    payload: bytes | None
    is_torn: bool = False


# -- the format: pure --------------------------------------------------------------------------------------------------


def encode(letter: Letter, accepted_ms: int, *, unsure: bool) -> bytes:
    """One record."""
    fields: dict[str, Any] = letter._asdict()
    del fields["wire"]
    # Beside the letter: an older program takes it for a conflict, as it always did, and goes on.
    more = {"first_wins": True} if fields.pop("first_wins") else {}
    payload = to_json({"accepted_ms": accepted_ms, "unsure": unsure, "letter": fields, **more}) + b"\n" + letter.wire
    return _HEAD.pack(MARK, VERSION, len(payload), _checksum(VERSION, payload)) + payload


def decode(payload: bytes, end: int) -> Entry:
    """What `encode` wrote. Raises UnknownVersion when there is more in it than this program knows."""
    line, _, wire = payload.partition(b"\n")
    try:
        header = from_json(line)
        letter = Letter(**header["letter"], wire=wire, first_wins=header.get("first_wins", False))
        return Entry(letter, header["accepted_ms"], header["unsure"], end)
    except (ValueError, TypeError, KeyError) as error:
        raise UnknownVersion(f"a spooled event is not as this program writes them ({error}): upgrade it") from None


def scan(data: bytes) -> Iterator[Stretch]:
    """The records of a segment in order, and between them what is unreadable. Together they cover all bytes.

    Raises UnknownVersion at a sound record that a newer program wrote.
    """
    at = 0
    while at < len(data):
        start, end = at, _end_of_record(data, at)
        if end:
            yield Stretch(start, end, data[start + _HEAD.size : end])
            at = end
            continue
        while not end and at >= 0:
            at = data.find(MARK, at + 1)
            end = _end_of_record(data, at) if at >= 0 else 0
        if not end:
            at = len(data)
        yield Stretch(start, at, None, is_torn=not end and _is_torn(data[start:]))


def _is_torn(tail: bytes) -> bool:
    """Whether bytes after the last record are one that was never finished, rather than one that was damaged."""
    if not tail.strip(b"\0"):
        return True  # some file systems have the new length on disk before the data
    if not tail.startswith(MARK[: len(tail)]):
        return False
    return len(tail) < _HEAD.size or _HEAD.size + int(_HEAD.unpack_from(tail)[2]) > len(tail)


def _checksum(version: int, payload: bytes) -> int:
    """It covers the length too: zeros are no record."""
    return zlib.crc32(payload, zlib.crc32(struct.pack(">BI", version, len(payload))))


def _end_of_record(data: bytes, at: int) -> int:
    """Where the record that begins here ends; 0 when none does."""
    if len(data) - at < _HEAD.size:
        return 0
    mark, version, length, checksum = _HEAD.unpack_from(data, at)
    start = at + _HEAD.size
    end: int = start + length
    if mark != MARK or end > len(data) or _checksum(version, data[start:end]) != checksum:
        return 0
    if version != VERSION:
        raise UnknownVersion(f"a spooled event has version {version}, this program knows {VERSION}: upgrade it")
    return end


def entries_in(path: Path) -> list[Entry]:
    """What can be read of a file in `aside/`."""
    return [decode(one.payload, one.end) for one in scan(path.read_bytes()) if one.payload is not None]


# -- the files ---------------------------------------------------------------------------------------------------------


class _NotUndone(OSError):
    """A write failed, and so did taking back what was written of it."""


@dataclass(slots=True)
class _Segment:
    """A file. All of its `size` bytes were synced; `left` records of it were not sent; `gaps` are start and length."""

    number: int
    size: int = 0
    left: int = 0
    first_ms: int = 0
    gaps: dict[int, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.number:016d}"


class Spool:
    """A first-in, first-out queue of letters on disk, owned by this process. Get one by `Spool.open` or `orphans`.

    What `append` accepted is given by `read`, in order, until `forget`; after a crash in between it is given again.
    Safe to share between threads. `torn_bytes` and `damaged_bytes` count what could not be read since it was opened.
    `most_bytes` is its limit, and may be changed.
    """

    def __init__(self, root: Path, name: str, directory: int, *, most_bytes: int) -> None:
        """`directory` is an open, locked directory `name` in `root`; `open` and `orphans` see to that."""
        self.path = root / name
        self.torn_bytes = 0
        self.damaged_bytes = 0
        self.most_bytes = most_bytes
        self._directory = directory
        self._lock = threading.Lock()
        self._segments: deque[_Segment] = deque()
        self._ahead: deque[Entry] = deque()  # read from the first segment, from the position on
        self._offset = 0
        self._newest = 0
        self._file: int | None = None  # of the last segment, while it is written
        self._closed = False
        self._survey()
        self._is_resumed = bool(self._segments)

    # -- whose it is ---------------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, root: Path, *, most_bytes: int = MOST_BYTES) -> Spool:
        """A spool in `root`, made if missing: one that a dead process left, with what is in it, or else a new one.

        So a process that is started again goes on where it was, in the same order and under the same limit. Raises
        Misconfigured when the directory can't be used.
        """
        _make_root(root)
        spool = next(orphans(root, most_bytes=most_bytes), None)
        while spool is None:
            name = uuid.uuid4().hex
            with _usable(root):
                (root / name).mkdir(mode=0o700)
                _sync_directory(root)
            spool = _adopt(root, name, most_bytes)  # None when somebody who looked for orphans was faster
        return spool

    def close(self) -> None:
        """Let go of it. What was not sent stays for the next process; a spool with nothing in it is removed."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._end_writing()
            if not self._segments:
                with contextlib.suppress(OSError):  # an empty directory does no harm: the next process takes it
                    os.unlink(_POSITION, dir_fd=self._directory)
                with contextlib.suppress(OSError):
                    self.path.rmdir()
            os.close(self._directory)

    # -- how much it is ------------------------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Whether all is sent."""
        return not self._segments

    @property
    def count(self) -> int:
        """Letters that were not sent."""
        return sum(segment.left for segment in tuple(self._segments))

    @property
    def size(self) -> int:
        """Their bytes on disk."""
        return max(0, sum(segment.size for segment in tuple(self._segments)) - self._offset)

    @property
    def oldest(self) -> timedelta | None:
        """The age of the first of them, by this machine's clock."""
        if self.count == 0:
            return None
        try:
            first = self._ahead[0].accepted_ms if self._ahead else self._segments[0].first_ms
        except IndexError:  # another thread sent it just now
            return None
        return timedelta(milliseconds=max(0, _now_ms() - first))

    # -- in and out ----------------------------------------------------------------------------------------------------

    def append(self, letters: Sequence[Letter], *, unsure: bool = False) -> None:
        """Keep the letters: they are on the disk when this returns. `unsure`: Redis may have stored them already.

        All or none. Raises Full at the limit or on a full disk, Unavailable when the disk fails otherwise, and
        OutcomeUnknown when it could not be undone.
        """
        if not letters:
            return
        now = _now_ms()
        data = b"".join([encode(letter, now, unsure=unsure) for letter in letters])
        with self._lock:
            self._check_open()
            if self.size + len(data) > self.most_bytes:
                raise Full(
                    f"the spool {self.path} holds {self.size:,} bytes, {self.most_bytes:,} is the limit: "
                    "wait until Redis is back and has taken them, or raise the limit"
                )
            self._write(data, len(letters), now)

    def read(self, most: int, most_bytes: int) -> list[Entry]:
        """The first letters, at most so many and about so many bytes of wire; they stay until `forget`.

        Raises Unavailable when the disk fails, UnknownVersion when a newer program wrote them.
        """
        with self._lock:
            self._check_open()
            try:
                self._load()
            except OSError as error:
                raise Unavailable(f"the spool {self.path} can't be read now: {error}") from error
            batch: list[Entry] = []
            size = 0
            for entry in islice(self._ahead, most):
                size += len(entry.letter.wire)
                if batch and size > most_bytes:
                    break
                batch.append(entry._replace(unsure=True) if self._is_resumed else entry)
            return batch

    def schedules(self, idempotency_key: str) -> bool:
        """Whether an event for later waits here under this key. Reads all that waits. Raises Unavailable."""
        with self._lock:
            self._check_open()
            try:
                return any(
                    letter.due_ms and letter.idempotency_key == idempotency_key
                    for number, segment in enumerate(self._segments)
                    for letter in self._letters(segment, 0 if number else self._offset)
                )
            except OSError as error:
                raise Unavailable(f"the spool {self.path} can't be read now: {error}") from error

    def forget(self, count: int) -> None:
        """Redis has the first `count` letters that `read` gave.

        The position is written, not synced: after a power cut more may be sent again, which the idempotency keys allow.
        """
        with self._lock:
            self._check_open()
            segment = self._segments[0]
            for _ in range(count):
                sent = self._ahead.popleft()
                self._offset, segment.first_ms = sent.end, sent.accepted_ms
            segment.left -= count
            self._is_resumed = False
            self._save_position(segment.number, self._offset)
            if not self._ahead and not segment.left:
                self._finish(self._segments.popleft())

    def set_aside(self, entries: Sequence[Entry]) -> Path:
        """Keep letters that Redis will never take, durably, in `aside/`; returns the file. Raises as `append` does."""
        data = b"".join([encode(one.letter, one.accepted_ms, unsure=one.unsure) for one in entries])
        name = f"{self.path.name}.conflicts"
        with self._lock, self._aside() as aside:
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=aside)
            try:
                _write_synced(file, os.lseek(file, 0, os.SEEK_END), data)
                os.fsync(aside)
            except OSError as error:
                raise self._refusal(error) from error
            finally:
                os.close(file)
        return self.path.parent / ASIDE / name

    # -- writing -------------------------------------------------------------------------------------------------------

    def _write(self, data: bytes, count: int, now: int) -> None:
        try:
            file, segment = self._open_segment(now)
        except OSError as error:
            raise self._refusal(error) from error
        try:
            _write_synced(file, segment.size, data)
        except OSError as error:
            self._end_writing()  # the next one goes to a file of its own: this one may be at its limit, or broken
            if segment.size == 0:
                self._delete(self._segments.pop())
            raise self._refusal(error) from error
        segment.size += len(data)
        segment.left += count

    def _open_segment(self, now: int) -> tuple[int, _Segment]:
        if self._file is not None and self._segments[-1].size < SEGMENT_BYTES:
            return self._file, self._segments[-1]
        self._end_writing()
        segment = _Segment(self._newest + 1, first_ms=now)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        file = os.open(segment.name, flags, 0o600, dir_fd=self._directory)
        self._newest = segment.number
        try:
            os.fsync(self._directory)
        except OSError:
            os.close(file)
            self._delete(segment)
            raise
        self._file = file
        self._segments.append(segment)
        return file, segment

    def _end_writing(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _refusal(self, error: OSError) -> Unavailable:
        if isinstance(error, _NotUndone):
            return OutcomeUnknown(f"the spool {self.path} can't be written: {error}. The event may be sent later")
        if error.errno in _NO_SPACE:
            return Full(f"the disk of the spool {self.path} is full ({error.strerror}): make room; nothing was kept")
        return Unavailable(f"the spool {self.path} can't be written: {error}. Is its disk well? Nothing was kept")

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable(f"the spool {self.path} is closed: nothing was kept")

    # -- reading -------------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Have letters ahead unless there are none. Segments without any are done with."""
        while not self._ahead and self._segments:
            segment = self._segments[0]
            for one in self._stretches(segment, self._offset):
                if one.payload is None:
                    self._note_damage(segment, one)
                else:
                    self._ahead.append(decode(one.payload, one.end))
            segment.left = len(self._ahead)
            if not self._ahead:
                self._finish(self._segments.popleft())

    def _stretches(self, segment: _Segment, start: int) -> Iterator[Stretch]:
        """What is in a segment from `start` on. What the disk does not give is unreadable too."""
        data = b""
        try:
            file = os.open(segment.name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._directory)
            with os.fdopen(file, "rb") as opened:
                opened.seek(start)
                data = opened.read(segment.size - start)
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise
        for one in scan(data):
            yield one._replace(start=start + one.start, end=start + one.end)
        if start + len(data) < segment.size:
            yield Stretch(start + len(data), segment.size, None)

    def _letters(self, segment: _Segment, start: int) -> Iterator[Letter]:
        for one in self._stretches(segment, start):
            if one.payload is not None:
                yield decode(one.payload, one.end).letter

    def _finish(self, segment: _Segment) -> None:
        """All of a segment is sent: it goes, unless there is something in it that could not be read."""
        self._offset = 0
        if not self._segments:
            self._end_writing()
        if not segment.gaps:
            self._delete(segment)
            return
        name = f"{self.path.name}-{segment.name}.damaged"
        try:
            with self._aside() as aside:
                os.rename(segment.name, name, src_dir_fd=self._directory, dst_dir_fd=aside)
                os.fsync(aside)
                os.fsync(self._directory)
            _log.error("a damaged segment of the spool was set aside", file=str(self.path.parent / ASIDE / name))
        except (OSError, Misconfigured) as error:  # the next process that opens the spool tries again
            _log.error("a damaged segment of the spool can't be set aside", name=segment.name, error=str(error))

    def _delete(self, segment: _Segment) -> None:
        try:
            os.unlink(segment.name, dir_fd=self._directory)
            os.fsync(self._directory)
        except OSError as error:  # at worst it is sent again by the next process
            _log.warning("a segment of the spool can't be deleted", name=segment.name, error=str(error))

    def _note_damage(self, segment: _Segment, gap: Stretch) -> None:
        if gap.start in segment.gaps:
            return  # it was told when the spool was opened
        size = segment.gaps[gap.start] = gap.end - gap.start
        self.damaged_bytes += size
        _log.error(
            "bytes of the spool can't be read; what follows them is sent",
            segment=str(self.path / segment.name),
            offset=gap.start,
            bytes=size,
        )

    @contextlib.contextmanager
    def _aside(self) -> Iterator[int]:
        root = self.path.parent
        with contextlib.suppress(FileExistsError):
            (root / ASIDE).mkdir(mode=0o700)
            _sync_directory(root)
        aside = _open_directory(root / ASIDE)
        try:
            yield aside
        finally:
            os.close(aside)

    # -- where it stands -----------------------------------------------------------------------------------------------

    def _save_position(self, number: int, offset: int) -> None:
        place = struct.pack(">QQ", number, offset)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
            file = os.open(_POSITION, flags, 0o600, dir_fd=self._directory)
            try:
                os.pwrite(file, place + struct.pack(">I", zlib.crc32(place)), 0)
            finally:
                os.close(file)
        except OSError as error:
            _log.warning("the spool's position can't be written: a crash repeats more", error=str(error))

    def _position(self) -> tuple[int, int]:
        """Segment and offset; (0, 0) when there is no sound one: then all is sent again."""
        try:
            file = os.open(_POSITION, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._directory)
            with os.fdopen(file, "rb") as opened:
                place = opened.read()
            number, offset, checksum = _PLACE.unpack(place)
        except (OSError, struct.error):
            return 0, 0
        return (number, offset) if zlib.crc32(place[:16]) == checksum else (0, 0)

    def _survey(self) -> None:
        """Find out what the last owner left."""
        number, offset = self._position()
        numbers = sorted(int(one.name) for one in self.path.iterdir() if _SEGMENT.fullmatch(one.name))
        self._newest = max([number, *numbers])
        for one in numbers:
            segment = _Segment(one)
            sent = offset if one == number else 0
            self._survey_segment(segment, sent, is_last=one == numbers[-1])
            if one < number:
                self._finish(segment)  # it was sent; its end did not reach the disk
                continue
            if not self._segments:
                self._offset = min(sent, segment.size)
            self._segments.append(segment)
        self._load()
        if self._segments:
            _log.info("the spool holds events", directory=str(self.path), count=self.count, bytes=self.size)

    def _survey_segment(self, segment: _Segment, sent: int, *, is_last: bool) -> None:
        segment.size = os.stat(segment.name, dir_fd=self._directory, follow_symlinks=False).st_size
        for one in self._stretches(segment, 0):
            if one.payload is not None:
                segment.left += one.start >= sent
            elif is_last and one.is_torn:
                self._cut(segment, one.start)
            else:
                self._note_damage(segment, one)

    def _cut(self, segment: _Segment, size: int) -> None:
        """The last owner died while it wrote: nobody was told that this record is kept."""
        torn = segment.size - size
        file = os.open(segment.name, os.O_WRONLY | os.O_NOFOLLOW, dir_fd=self._directory)
        try:
            os.ftruncate(file, size)
            os.fsync(file)
        finally:
            os.close(file)
        segment.size = size
        self.torn_bytes += torn
        _log.warning("the spool's last record was not finished", segment=str(self.path / segment.name), bytes=torn)


def orphans(root: Path, *, most_bytes: int = MOST_BYTES) -> Iterator[Spool]:
    """The spools that no living process owns, each taken over when it is yielded. The caller closes them.

    One that a newer program wrote is left where it is, with an error in the log.
    """
    with _usable(root):
        names = sorted(path.name for path in root.iterdir() if _SPOOL.fullmatch(path.name))
    for name in names:
        try:
            spool = _adopt(root, name, most_bytes)
        except UnknownVersion as error:
            _log.error("a spool is left alone", directory=str(root / name), error=str(error))
            continue
        if spool is not None:
            yield spool


def _adopt(root: Path, name: str, most_bytes: int) -> Spool | None:
    """Own a directory, or None when another process does or it was removed just now."""
    with _usable(root / name):
        try:
            directory = _open_directory(root / name)
        except FileNotFoundError:
            return None
        try:
            if _is_ours_now(directory, root / name):
                return Spool(root, name, directory, most_bytes=most_bytes)
        except BaseException:
            os.close(directory)
            raise
        os.close(directory)
        return None


def _is_ours_now(directory: int, path: Path) -> bool:
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise Misconfigured(f"the spool {path} can't be locked ({error.strerror}): use a local file system") from error
    try:
        return path.stat(follow_symlinks=False).st_ino == os.fstat(directory).st_ino
    except FileNotFoundError:
        return False  # its last owner removed it between our opening and locking it


def _make_root(root: Path) -> None:
    with _usable(root):
        if not root.is_symlink() and not root.exists():
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync_directory(root.parent)
        os.close(_open_directory(root))


@contextlib.contextmanager
def _usable(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Misconfigured(
            f"the spool directory {root} can't be used: {error.strerror}. Name one that this user may write in"
        ) from error


def _open_directory(path: Path) -> int:
    """Open a directory of ours. Raises Misconfigured for one that somebody else could redirect or change."""
    try:
        directory = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        raise
    except OSError as error:
        what = "a symbolic link: name the directory itself" if path.is_symlink() else f"not usable: {error.strerror}"
        raise Misconfigured(f"the spool directory {path} is {what}") from error
    status = os.fstat(directory)
    if status.st_uid == os.geteuid() and not status.st_mode & 0o022:
        return directory
    os.close(directory)
    if status.st_uid != os.geteuid():
        raise Misconfigured(
            f"the spool directory {path} belongs to another user ({status.st_uid}): name one of your own"
        )
    raise Misconfigured(f"the spool directory {path} can be written by others: chmod go-w {path}")


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _write_synced(file: int, size: int, data: bytes) -> None:
    """Write behind the first `size` bytes and wait for the disk. When it fails the file has its old size again.

    Raises OSError, and _NotUndone when the old size could not be restored for sure.
    """
    try:
        rest, at = memoryview(data), size
        while rest:
            written = os.pwrite(file, rest, at)
            rest, at = rest[written:], at + written
        os.fsync(file)
    except OSError:
        try:
            os.ftruncate(file, size)
            os.fsync(file)
        except OSError as error:
            raise _NotUndone(error.errno, error.strerror) from error
        raise


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
