import os
import subprocess
import sys
from pathlib import Path

import pytest
from stillhouse.artifacts.locks import lock, try_lock

COUNT = """
import sys, time
from pathlib import Path
from stillhouse.artifacts.locks import lock

count = Path("count")
print("ready", flush=True)
sys.stdin.readline()
for _ in range(20):
    with lock(Path("locks/x.lock")):
        number = int(count.read_text())
        time.sleep(0.001)
        count.write_text(str(number + 1))
"""
HOLD = """
import sys
from pathlib import Path
from stillhouse.artifacts import locks

held = locks.{kind}(Path("x.lock"))
if {kind!r} == "lock":
    held.__enter__()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(empty):
    """Return a function that runs code in a process until its first line; all are ended."""
    processes = []

    def start(code):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout.readline()
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_lock_file_is_removed_at_the_end(empty):
    path = Path("new/x.lock")
    with lock(path):
        assert path.exists()
    assert not path.exists()
    with pytest.raises(KeyboardInterrupt), lock(path):
        raise KeyboardInterrupt
    assert not path.exists()
    with lock(path):
        pass


def test_one_process_at_a_time_holds_a_lock_whose_file_comes_and_goes(start):
    Path("count").write_text("0")
    processes = [start(COUNT) for _ in range(3)]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.wait(600) for process in processes] == [0, 0, 0]
    assert Path("count").read_text() == "60"
    assert list(Path("locks").iterdir()) == []


@pytest.mark.parametrize("kind", ["lock", "try_lock"])
def test_a_lock_of_a_killed_process_is_free(start, kind):
    process = start(HOLD.format(kind=kind))
    assert try_lock(Path("x.lock")) is None
    process.kill()
    process.wait()
    assert Path("x.lock").exists()
    with lock(Path("x.lock")):
        pass


def test_a_lock_is_tried_without_waiting(empty):
    held = try_lock(Path("new/x.gpu"))
    assert held is not None
    assert try_lock(Path("new/x.gpu")) is None
    assert try_lock(Path("new/y.gpu")) is not None
    held.release()
    assert try_lock(Path("new/x.gpu")) is not None


def test_a_group_may_take_the_locks_of_its_members(empty):
    umask = os.umask(0o002)
    try:
        with lock(Path("x.lock")):
            assert Path("x.lock").stat().st_mode & 0o777 == 0o664
        try_lock(Path("y.lock"))
        assert Path("y.lock").stat().st_mode & 0o777 == 0o664
    finally:
        os.umask(umask)
