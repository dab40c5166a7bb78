"""The spool's files: what was acknowledged is there after any crash, in order, and damage is told, never hidden."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from eventbus import spool as module
from eventbus.errors import Full, Misconfigured, OutcomeUnknown, Unavailable, UnknownVersion
from eventbus.redis.shard import Letter
from eventbus.spool import Entry, Spool, decode, encode, entries_in, orphans, scan

KILLS = 30
NOBODY = 65534


def letter(n: int, wire: bytes = b'{"topic":"custom.n"}') -> Letter:
    return Letter("custom.n", None, f"id-{n}", f"key-{n}", "f" * 32, 86_400_000, wire)


def letters(first: int, end: int) -> list[Letter]:
    return [letter(n) for n in range(first, end)]


def take(spool: Spool, most: int = 200) -> list[Letter]:
    """The next batch, read and forgotten."""
    entries = spool.read(most, 1 << 20)
    if entries:
        spool.forget(len(entries))
    return [entry.letter for entry in entries]


def drain(spool: Spool) -> list[Letter]:
    found: list[Letter] = []
    while not spool.is_empty:
        found += take(spool)
    return found


def segments(spool: Spool) -> list[Path]:
    return sorted(path for path in spool.path.iterdir() if path.name.isdigit())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(root: Path) -> Iterator[Spool]:
    opened = Spool.open(root)
    yield opened
    opened.close()


def crashed(root: Path, name: str = "after") -> Path:
    """What the disk would hold if the owner had died now: a copy that nobody has locked."""
    copy = root.with_name(name)
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(root, copy)
    return copy


@contextmanager
def reopened(root: Path) -> Iterator[Spool]:
    opened = Spool.open(root)
    try:
        yield opened
    finally:
        opened.close()


# -- the format --------------------------------------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
any_letter = st.builds(
    Letter,
    text,
    st.none() | text,
    text,
    text,
    text,
    st.integers(1, 2**53),
    st.binary(max_size=300),
    st.integers(0, 2**53),
    st.booleans(),
)
utf8_letter = any_letter.map(lambda one: one._replace(wire=one.topic.encode() * 3))


def contents(data: bytes) -> list[Letter]:
    return [decode(one.payload, one.end).letter for one in scan(data) if one.payload is not None]


@given(any_letter, st.integers(0, 2**53), st.booleans())
def test_what_is_encoded_is_decoded(one: Letter, accepted_ms: int, unsure: bool) -> None:
    record = encode(one, accepted_ms, unsure=unsure)
    (found,) = scan(record)

    assert (found.start, found.end) == (0, len(record))
    assert found.payload is not None
    assert decode(found.payload, found.end) == Entry(one, accepted_ms, unsure, len(record))


@given(st.lists(utf8_letter, min_size=1, max_size=5), st.data())
def test_a_torn_end_costs_the_records_it_touches_and_no_other(many: list[Letter], data: st.DataObject) -> None:
    records = [encode(one, 0, unsure=False) for one in many]
    whole = b"".join(records)
    cut = data.draw(st.integers(0, len(whole)))
    ends = [sum(len(one) for one in records[: n + 1]) for n in range(len(records))]
    complete = sum(end <= cut for end in ends)

    found = list(scan(whole[:cut]))

    assert contents(whole[:cut]) == many[:complete]
    assert [one.is_torn for one in found if one.payload is None] == [True] * (cut not in [0, *ends])


@given(st.lists(utf8_letter, min_size=1, max_size=6), st.data())
def test_a_changed_byte_costs_the_record_it_is_in_and_no_other(many: list[Letter], data: st.DataObject) -> None:
    records = [encode(one, 0, unsure=False) for one in many]
    hit = data.draw(st.integers(0, len(many) - 1))
    at = data.draw(st.integers(0, len(records[hit]) - 1))
    broken = bytearray(records[hit])
    broken[at] ^= data.draw(st.integers(1, 255))
    damaged = b"".join([*records[:hit], bytes(broken), *records[hit + 1 :]])

    assert contents(damaged) == many[:hit] + many[hit + 1 :]


@given(st.binary(max_size=200))
def test_any_bytes_are_covered_without_a_hole(data: bytes) -> None:
    found = list(scan(data))

    assert b"".join(data[one.start : one.end] for one in found) == data
    assert all(one.payload is None for one in found)


def test_zeros_are_no_record() -> None:
    """A file may be longer on disk than what was written of it."""
    (gap,) = scan(bytes(4096))

    assert (gap.payload, gap.is_torn) == (None, True)


def test_a_record_says_its_version_when_a_field_is_added() -> None:
    """An older program that took over such a spool would drop the field: raise VERSION together with this list, or
    write it beside the letter, as `first_wins`, where a program that overlooks it does what it always did."""
    assert module.VERSION == 1
    assert Letter._fields == (
        "topic",
        "key",
        "event_id",
        "idempotency_key",
        "fingerprint",
        "remember_ms",
        "wire",
        "due_ms",
        "first_wins",
    )


def test_a_letter_whose_first_words_win_reads_as_any_other_to_an_older_program() -> None:
    """Which reads these fields of the header, and makes a letter of all that stand in `letter`."""
    for first_wins in (False, True):
        (found,) = scan(encode(letter(1)._replace(first_wins=first_wins), 5, unsure=False))
        assert found.payload is not None
        header = json.loads(found.payload.partition(b"\n")[0])
        assert set(header["letter"]) == {*Letter._fields} - {"wire", "first_wins"}
        assert (header["accepted_ms"], header["unsure"]) == (5, False)


def test_a_letter_of_an_older_program_is_read() -> None:
    fields = {name: value for name, value in letter(1)._asdict().items() if name not in ("wire", "first_wins")}
    payload = json.dumps({"accepted_ms": 5, "unsure": False, "letter": fields}).encode() + b"\n" + letter(1).wire
    assert decode(payload, 9) == Entry(letter(1), 5, False, 9)


# -- in and out --------------------------------------------------------------------------------------------------------


def test_what_goes_in_comes_out_in_order(spool: Spool) -> None:
    for n in range(0, 1000, 10):
        spool.append(letters(n, n + 10))

    assert (spool.count, spool.is_empty) == (1000, False)
    assert drain(spool) == letters(0, 1000)
    assert (spool.count, spool.size, spool.is_empty, spool.oldest) == (0, 0, True, None)


def test_what_was_read_stays_until_it_is_forgotten(spool: Spool) -> None:
    spool.append(letters(0, 5))

    assert spool.read(3, 1 << 20) == spool.read(3, 1 << 20)
    spool.forget(2)

    assert [entry.letter for entry in spool.read(10, 1 << 20)] == letters(2, 5)


def test_a_batch_has_a_limit_in_bytes_and_at_least_one_letter(spool: Spool) -> None:
    spool.append([letter(n, b"x" * 1000) for n in range(5)])

    assert [len(spool.read(10, most)) for most in (1, 999, 2500, 5000)] == [1, 1, 2, 5]


def test_the_age_is_that_of_the_oldest(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_now_ms", lambda: 1_000)
    spool.append(letters(0, 1))
    monkeypatch.setattr(module, "_now_ms", lambda: 5_000)
    spool.append(letters(1, 2))

    assert spool.oldest == timedelta(seconds=4)
    take(spool, 1)
    spool.read(1, 1)
    assert spool.oldest == timedelta(0)


def test_an_event_for_later_is_found_wherever_it_waits(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 300)
    with contextlib.closing(Spool.open(root)) as spool:
        for n in range(6):
            spool.append([letter(n)._replace(due_ms=n % 2)])
        assert len(segments(spool)) > 1
        take(spool, 2)
        assert [n for n in range(7) if spool.schedules(f"key-{n}")] == [3, 5], "1 is sent; the even ones are for now"
        drain(spool)
        assert not spool.schedules("key-5")


def test_segments_are_deleted_once_they_are_sent(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 1000)
    for n in range(100):
        spool.append(letters(n, n + 1))
    before = len(segments(spool))

    assert [one for _ in range(50) for one in take(spool, 1)] == letters(0, 50)
    assert 0 < len(segments(spool)) <= before / 2 + 1
    assert drain(spool) == letters(50, 100)
    assert segments(spool) == []


def test_several_threads_may_share_it(spool: Spool) -> None:
    def write(thread: int) -> None:
        for n in range(100):
            spool.append([letter(thread * 1000 + n)])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    found: list[Letter] = []
    while len(found) < 400:
        found += take(spool, 7)
    for thread in threads:
        thread.join()

    for thread_number in range(4):
        first = thread_number * 1000
        assert [one for one in found if one in set(letters(first, first + 100))] == letters(first, first + 100)


# -- crashes -----------------------------------------------------------------------------------------------------------

WRITERS = """
import os, sys
from pathlib import Path
import structlog
from eventbus.redis.shard import Letter
from eventbus.spool import Spool

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

def write(n):
    spool = Spool.open(Path(sys.argv[1]))
    print(os.getpid(), flush=True)
    while True:
        many = [Letter("custom.n", None, f"id-{n + i}", f"key-{n + i}", "f" * 32, 1000, b"x" * 3000) for i in range(10)]
        spool.append(many)
        n += 10
        print(n, flush=True)

for line in sys.stdin:
    if (child := os.fork()) == 0:
        write(int(line))
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


def test_what_was_acknowledged_survives_a_kill_at_any_instant(root: Path) -> None:
    """One writer after the other takes the spool over and is killed while it writes."""
    numbers = random.Random(7)
    kept = 0
    command = [sys.executable, "-c", WRITERS, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writers:
        assert writers.stdout is not None
        assert writers.stdin is not None
        for _ in range(KILLS):
            print(kept, file=writers.stdin, flush=True)
            writer = int(writers.stdout.readline())
            told = [writers.stdout.readline() for _ in range(numbers.randint(1, 40))]
            os.kill(writer, signal.SIGKILL)
            told += iter(writers.stdout.readline, "dead\n")
            with reopened(root) as spool:
                kept = spool.count
            assert int(told[-1]) <= kept <= int(told[-1]) + 10  # the last batch may be there unannounced

    with reopened(root) as spool:
        assert [one.event_id for one in drain(spool)] == [f"id-{n}" for n in range(kept)]
        assert spool.damaged_bytes == 0


def test_a_record_cut_at_any_byte_is_dropped_and_told(root: Path, spool: Spool) -> None:
    spool.append(letters(0, 3))
    record = len(encode(letter(2), 1_700_000_000_000, unsure=False))
    for lost in range(1, record):
        copy = crashed(root)
        (file,) = copy.glob("*/0*")
        os.truncate(file, file.stat().st_size - lost)

        with capture_logs() as logs, reopened(copy) as after:
            assert drain(after) == letters(0, 2)
        assert (after.torn_bytes, after.damaged_bytes) == (record - lost, 0)
        assert {"event": "the spool's last record was not finished", "bytes": record - lost}.items() <= logs[0].items()


def test_after_a_torn_end_it_goes_on(root: Path, spool: Spool) -> None:
    spool.append(letters(0, 3))
    copy = crashed(root)
    (file,) = copy.glob("*/0*")
    os.truncate(file, file.stat().st_size - 1)

    with reopened(copy) as after:
        after.append(letters(7, 9))
        assert drain(after) == [*letters(0, 2), *letters(7, 9)]


def test_a_crash_after_sending_repeats_a_batch_at_most(root: Path, spool: Spool) -> None:
    spool.append(letters(0, 1000))
    for _ in range(3):
        take(spool, 100)
    spool.read(100, 1 << 20)  # sent, and the process dies before it is forgotten

    with reopened(crashed(root)) as after:
        assert (after.count, [entry.letter for entry in after.read(100, 1 << 20)]) == (700, letters(300, 400))


def test_what_was_in_line_at_a_crash_may_have_been_sent(root: Path, spool: Spool) -> None:
    spool.append(letters(0, 4))
    assert not any(entry.unsure for entry in spool.read(2, 1 << 20))

    with reopened(crashed(root)) as after:
        assert [entry.unsure for entry in after.read(2, 1 << 20)] == [True, True]
        after.forget(2)
        assert [entry.unsure for entry in after.read(2, 1 << 20)] == [False, False]


@pytest.mark.parametrize("place", [b"", b"short", bytes(19) + b"\1"])
def test_without_a_sound_position_all_is_sent_again(root: Path, spool: Spool, place: bytes) -> None:
    spool.append(letters(0, 4))
    take(spool, 2)
    copy = crashed(root)
    (file,) = copy.glob("*/position")
    file.write_bytes(place)

    with reopened(copy) as after:
        assert drain(after) == letters(0, 4)


def test_a_sent_segment_that_came_back_is_not_sent_again(
    root: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its deletion did not reach the disk before the power went."""
    monkeypatch.setattr(module, "SEGMENT_BYTES", 1)
    for n in range(3):
        spool.append(letters(n, n + 1))
    first = segments(spool)[0]
    bytes_of_first = first.read_bytes()
    take(spool, 1)
    take(spool, 1)
    assert not first.exists()
    first.write_bytes(bytes_of_first)

    with reopened(crashed(root)) as after:
        assert drain(after) == letters(2, 3)


# -- durable -----------------------------------------------------------------------------------------------------------


def test_append_returns_when_the_file_and_its_name_are_synced(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bites when a sync is missing, or comes before the write."""
    synced: dict[int, int] = {}
    real = os.fsync

    def fsync(file: int) -> None:
        real(file)
        status = os.fstat(file)
        synced[status.st_ino] = len(os.listdir(file)) if stat.S_ISDIR(status.st_mode) else status.st_size

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(module, "SEGMENT_BYTES", 300)
    for n in range(5):
        spool.append(letters(n, n + 1))
        last = segments(spool)[-1].stat()

        assert synced[last.st_ino] == last.st_size > 0
        assert synced[spool.path.stat().st_ino] == len(list(spool.path.iterdir()))


def test_a_new_spool_has_synced_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[int] = set()
    real = os.fsync

    def fsync(file: int) -> None:
        real(file)
        synced.add(os.fstat(file).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)

    with reopened(tmp_path / "spool"):
        assert {tmp_path.stat().st_ino, (tmp_path / "spool").stat().st_ino} <= synced


# -- damage ------------------------------------------------------------------------------------------------------------


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 0x10
    file.write_bytes(data)


def test_damage_in_the_middle_is_told_passed_and_kept_for_inspection(
    root: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 1000)
    for n in range(20):
        spool.append(letters(n, n + 1))
    copy = crashed(root)
    record = len(encode(letter(1), 1_700_000_000_000, unsure=False))
    first = min(copy.glob("*/0*"))
    flip(first, record + record // 2)
    damaged = first.read_bytes()

    with capture_logs() as logs, reopened(copy) as after:
        assert after.count == 19
        assert drain(after) == [letter(0), *letters(2, 20)]
        assert after.damaged_bytes == record

    (aside,) = (copy / "aside").iterdir()
    assert (aside.suffix, aside.read_bytes()) == (".damaged", damaged)
    errors = [one for one in logs if one["log_level"] == "error"]
    assert errors[0].items() >= {"segment": str(first), "offset": record, "bytes": record}.items()
    assert [one["file"] for one in errors[1:]] == [str(aside)]


def test_damage_that_comes_while_it_is_open_is_passed_too(spool: Spool) -> None:
    spool.append(letters(0, 3))
    flip(segments(spool)[0], 30)

    assert drain(spool) == letters(1, 3)
    assert spool.damaged_bytes > 0
    assert len(list((spool.path.parent / "aside").iterdir())) == 1


def test_a_segment_of_which_nothing_can_be_read_is_kept_too(root: Path, spool: Spool) -> None:
    spool.append(letters(0, 1))
    copy = crashed(root)
    (file,) = copy.glob("*/0*")
    flip(file, 40)

    with reopened(copy) as after:
        assert after.is_empty
    assert len(list((copy / "aside").glob("*.damaged"))) == 1


def test_a_segment_that_somebody_deleted_is_told(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 1)
    for n in range(3):
        spool.append(letters(n, n + 1))
    segments(spool)[1].unlink()

    with capture_logs() as logs:
        assert drain(spool) == [letter(0), letter(2)]
    assert (spool.count, spool.is_empty) == (0, True)
    assert "can't be read" in logs[0]["event"]


# -- full --------------------------------------------------------------------------------------------------------------


def test_at_the_limit_it_is_full_and_says_the_limit(root: Path) -> None:
    spool = Spool.open(root, most_bytes=10_000)
    kept = 0
    with pytest.raises(Full, match="10,000 is the limit"):  # noqa: PT012  which one is refused is what matters
        for kept in range(1000):
            spool.append(letters(kept, kept + 1))

    assert spool.count == kept
    assert 0 < spool.size <= 10_000
    assert len(take(spool, 20)) == 20
    spool.append(letters(kept, kept + 1))
    assert drain(spool) == letters(20, kept + 1)
    spool.close()


def test_the_limit_holds_across_restarts(root: Path) -> None:
    """Whoever crashes again and again does not fill the disk."""
    for n in (0, 30):
        again = Spool.open(root, most_bytes=17_000)
        assert again.count == n
        again.append(letters(n, n + 30))
        again.close()

    full = Spool.open(root, most_bytes=17_000)
    with pytest.raises(Full):
        full.append(letters(60, 90))
    full.close()


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[None]:
    path.mkdir(mode=0o700)
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "spool", path]).returncode
    ):
        pytest.skip("mounting a small disk needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def test_a_full_disk_keeps_nothing_half_and_works_again_with_space(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1024 * 1024):
        ballast = tmp_path / "disk" / "ballast"
        ballast.write_bytes(bytes(600 * 1024))
        with reopened(tmp_path / "disk" / "spool") as spool:
            kept = fill(spool)
            assert contents(segments(spool)[-1].read_bytes()) == kept  # nothing half behind it
            with pytest.raises(Full, match=r"disk .* is full .* make room"):
                spool.append(letters(0, 200))

            ballast.unlink()
            spool.append(letters(5000, 5200))

            assert drain(spool) == [*kept, *letters(5000, 5200)]
            assert spool.damaged_bytes == 0


def test_a_file_that_may_not_grow_keeps_nothing_half(root: Path, spool: Spool) -> None:
    with file_limit(100_000):
        kept = fill(spool)
        (file,) = segments(spool)
        assert contents(file.read_bytes()) == kept
        spool.append(more := [letter(n, b"x" * 700) for n in range(5000, 5050)])  # it goes to a file of its own

    with reopened(crashed(root)) as after:
        assert drain(after) == [*kept, *more]
        assert (after.torn_bytes, after.damaged_bytes) == (0, 0)


def fill(spool: Spool) -> list[Letter]:
    """Append until the disk is full; what was accepted."""
    kept: list[Letter] = []
    with pytest.raises(Full, match=r"disk .* is full"):  # noqa: PT012  what was accepted before is what matters
        for n in range(0, 5000, 50):
            batch = [letter(i, b"x" * 700) for i in range(n, n + 50)]
            spool.append(batch)
            kept += batch
    return kept


def test_a_disk_that_fails_is_unavailable_and_nothing_is_kept(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.append(letters(0, 1))
    real, calls = os.fsync, iter([OSError(5, "Input/output error")])

    def fsync(file: int) -> None:
        for error in calls:
            raise error
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(Unavailable, match=r"Input/output error.*Nothing was kept") as caught:
        spool.append(letters(1, 2))

    assert type(caught.value) is Unavailable
    spool.append(letters(2, 3))
    assert drain(spool) == [letter(0), letter(2)]


def test_what_could_not_be_undone_has_an_unknown_outcome(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(file: int) -> None:
        raise OSError(5, "Input/output error")

    spool.append(letters(0, 1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OutcomeUnknown, match="may be sent later"):
            spool.append(letters(1, 2))

    assert drain(spool) == letters(0, 1)


# -- whose it is -------------------------------------------------------------------------------------------------------


def test_a_spool_has_one_owner(root: Path, spool: Spool) -> None:
    with reopened(root) as other:
        assert other.path != spool.path
        assert list(orphans(root)) == []


def test_an_empty_spool_leaves_nothing_behind(root: Path) -> None:
    for n in range(3):
        with reopened(root) as spool:
            spool.append(letters(n, n + 1))
            assert drain(spool) == letters(n, n + 1)

    assert list(root.iterdir()) == []


def test_who_is_started_again_goes_on_with_what_it_left(root: Path) -> None:
    with reopened(root) as first:
        first.append(letters(0, 2))
    with reopened(root) as again:
        again.append(letters(2, 3))

        assert again.path == first.path
        assert drain(again) == letters(0, 3)


def test_what_dead_processes_left_is_found_once(root: Path) -> None:
    left = [Spool.open(root) for _ in range(3)]
    for n, spool in enumerate(left):
        spool.append(letters(n, n + 1))
    assert list(orphans(root)) == []
    for spool in left:
        spool.close()

    found = list(orphans(root))

    assert sorted(one.event_id for spool in found for one in drain(spool)) == ["id-0", "id-1", "id-2"]
    assert list(orphans(root)) == []
    for spool in found:
        spool.close()


def test_what_a_newer_program_wrote_is_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "VERSION", 2)
        with reopened(root) as newer:
            newer.append(letters(0, 2))

    with capture_logs() as logs, reopened(root) as mine:
        assert mine.path != newer.path
    assert "upgrade it" in logs[0]["error"]

    monkeypatch.setattr(module, "VERSION", 2)
    with reopened(root) as newer:
        assert drain(newer) == letters(0, 2)


def test_a_field_this_program_does_not_know_is_not_dropped() -> None:
    with pytest.raises(UnknownVersion, match="upgrade it"):
        decode(b'{"accepted_ms":1,"unsure":false,"letter":{"topic":"a.b","shape":"round"}}\n{}', 0)


def test_a_closed_spool_accepts_nothing(root: Path) -> None:
    spool = Spool.open(root)
    spool.close()
    spool.close()

    with pytest.raises(Unavailable, match="closed"):
        spool.append(letters(0, 1))


def test_files_are_for_their_owner_only(root: Path, spool: Spool) -> None:
    spool.append(letters(0, 2))
    take(spool, 1)
    aside = spool.set_aside(spool.read(1, 1))

    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")]}

    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert aside in modes


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (tmp_path / "spool").symlink_to(elsewhere)
    with pytest.raises(Misconfigured, match="symbolic link: name the directory itself"):
        Spool.open(tmp_path / "spool")

    root = tmp_path / "root"
    root.mkdir(mode=0o700)
    (root / ("a" * 32)).symlink_to(elsewhere)
    with pytest.raises(Misconfigured, match="symbolic link"):
        Spool.open(root)
    assert list(elsewhere.iterdir()) == []


def test_a_planted_segment_is_not_written_through(root: Path, spool: Spool, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (spool.path / "0000000000000001").symlink_to(victim)

    with pytest.raises(Unavailable, match="can't be written"):
        spool.append(letters(0, 1))

    assert victim.read_bytes() == b"precious"


def test_a_directory_that_others_may_write_is_refused(root: Path) -> None:
    root.mkdir()
    root.chmod(0o770)

    with pytest.raises(Misconfigured, match=f"written by others: chmod go-w {root}"):
        Spool.open(root)


def test_a_file_in_its_place_is_refused(root: Path) -> None:
    root.write_text("")

    with pytest.raises(Misconfigured, match="Not a directory"):
        Spool.open(root)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of somebody else")
def test_a_directory_of_somebody_else_is_refused(root: Path) -> None:
    root.mkdir(mode=0o700)
    os.chown(root, NOBODY, NOBODY)

    with pytest.raises(Misconfigured, match=f"another user \\({NOBODY}\\)"):
        Spool.open(root)


def test_a_directory_that_can_not_be_written_is_refused() -> None:
    with tempfile.TemporaryDirectory() as home, as_nobody(Path(home)):
        Path(home).chmod(0o500)
        with pytest.raises(Misconfigured, match=r"Permission denied\. Name one that this user may write in"):
            Spool.open(Path(home))
        with pytest.raises(Misconfigured, match="Permission denied"):
            Spool.open(Path(home) / "below")
        Path(home).chmod(0o700)


@contextmanager
def as_nobody(home: Path) -> Iterator[None]:
    """Be somebody whom modes bind: nothing is forbidden to root."""
    if os.geteuid():
        yield
        return
    os.chown(home, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_is_set_aside_can_be_read(spool: Spool) -> None:
    spool.append(letters(0, 5))
    file = spool.set_aside(spool.read(2, 1 << 20))
    spool.forget(2)
    assert spool.set_aside(spool.read(1, 1)) == file

    assert [entry.letter for entry in entries_in(file)] == letters(0, 3)
    assert ids(drain(spool)) == ids(letters(2, 5))


def ids(many: Sequence[Letter]) -> list[str]:
    return [one.event_id for one in many]
