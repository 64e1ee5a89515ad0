"""A folder has one writer: a second waits and says for whom, and takes over when the first is killed."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from stablevsr.runtime.errors import UserError
from stablevsr.runtime.locks import single_writer

HOLD = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from stablevsr.runtime.locks import single_writer
    with single_writer(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(60)
    """
)


@pytest.fixture
def holder(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "state"], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_the_lock_of_a_killed_writer_is_free_and_whoever_waited_for_it_was_named(holder, tmp_path, capfd):
    entered = threading.Event()

    def wait():
        with single_writer(tmp_path / "state"):
            entered.set()

    second = threading.Thread(target=wait)
    second.start()
    assert not entered.wait(1.0)  # longer than the waiting one looks again
    holder.send_signal(signal.SIGKILL)
    second.join(timeout=20)
    assert entered.is_set()
    assert capfd.readouterr().err == f"waiting for process {holder.pid}, which is still writing {tmp_path}/state\n"
    assert (tmp_path / "state" / ".lock").read_text() == str(os.getpid())


def test_an_error_gives_the_folder_back(tmp_path):
    with pytest.raises(ZeroDivisionError), single_writer(tmp_path):
        raise ZeroDivisionError
    with single_writer(tmp_path):
        pass


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    """As Lustre is where it is mounted without them."""

    def missing(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", missing)
    with pytest.raises(UserError, match=r"has no file locks \(flock\).*mount it with locks"), single_writer(tmp_path):
        raise AssertionError("entered without a lock")
