import os
import pty
import subprocess
import sys
import termios

CODE = """
import sys
from stillhouse.artifacts import progress
if sys.argv[1:]:
    progress.keep_console(2)
    sys.stderr = open("log", "w")
for _ in progress.track(range(3), 3, "crops", lambda: "loss 0.5"):
    pass
"""


def run(tmp_path, stderr, *arguments):
    """Run the loop in a separate process with a given standard error; return its output."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        check=True,
    )
    return done.stdout


def on_a_terminal(tmp_path, *arguments):
    """Return the standard output of the loop, and its output on a terminal."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    printed = run(tmp_path, theirs, *arguments)
    os.close(theirs)
    drawn = b""
    try:
        while part := os.read(ours, 4096):
            drawn += part
    except OSError:
        pass  # end of the output: the other end is closed
    os.close(ours)
    return printed, drawn.decode()


def test_a_log_gets_plain_lines_and_no_bar(tmp_path):
    with open(tmp_path / "log", "w") as log:
        printed = run(tmp_path, log)
    assert printed.startswith("crops: 3/3 in ")
    assert printed.endswith(" s loss 0.5\n")
    assert (tmp_path / "log").read_text() == ""


def test_a_terminal_gets_a_bar_beside_the_lines(tmp_path):
    printed, drawn = on_a_terminal(tmp_path)
    assert printed.startswith("crops: 3/3 in ")
    assert "crops" in drawn
    assert "\r" in drawn


def test_the_terminal_is_remembered_when_a_log_takes_its_place(tmp_path):
    _, drawn = on_a_terminal(tmp_path, "keep")
    assert "crops" in drawn
    assert (tmp_path / "log").read_text() == ""
