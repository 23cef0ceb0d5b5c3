"""A program on a leash ends with the one that started it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from service.embedded.leash import leashed

# Says when it runs and when it is told to end, and then does.
_PROGRAM = """\
import os, signal, sys, time
def end(*_):
    print("told to end", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
print(os.getpid(), flush=True)
time.sleep(60)
"""
_PARENT = f"""\
import subprocess, sys, time
from service.embedded.leash import leashed
program = [sys.executable, "-c", {_PROGRAM!r}]
subprocess.Popen(leashed(program, between=sys.argv[1] == "between")).wait()
"""
_SECONDS = 20


def program(*, between: bool) -> subprocess.Popen[str]:
    argv = leashed([sys.executable, "-c", _PROGRAM], between=between)
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("between", [False, True])
def test_it_is_told_what_the_leash_is_told(between: bool) -> None:
    process = program(between=between)
    assert (said(process) == str(process.pid)) is not between
    process.terminate()
    assert said(process) == "told to end"
    assert process.wait(_SECONDS) == 7


@pytest.mark.parametrize("how", ["become", "between"])
def test_it_is_told_to_end_when_its_parent_is_killed(how: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, how], stdout=subprocess.PIPE, text=True
    )
    assert said(parent).isdecimal()
    parent.kill()
    assert said(parent) == "told to end"
    parent.wait(_SECONDS)


def test_it_is_told_to_end_when_what_is_between_is_killed() -> None:
    process = program(between=True)
    assert said(process).isdecimal()
    process.kill()
    assert said(process) == "told to end"
    process.wait(_SECONDS)


@pytest.mark.parametrize("between", [False, True])
def test_signals_that_were_held_back_reach_it(between: bool) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        process = program(between=between)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert said(process).isdecimal()
    process.terminate()
    assert said(process) == "told to end"
    process.wait(_SECONDS)


@pytest.mark.parametrize("between", [False, True])
def test_a_program_that_is_not_there_is_one_line(between: bool) -> None:
    done = subprocess.run(
        leashed(["/no/such/program"], between=between),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "cannot start /no/such/program: No such file or directory\n"


def test_one_whose_parent_is_gone_already_does_not_begin(tmp_path: Path) -> None:
    argv = leashed(["touch", str(tmp_path / "begun")])
    argv[argv.index(str(os.getpid()))] = "1"
    assert subprocess.run(argv, timeout=_SECONDS, check=False).returncode == 1
    assert not (tmp_path / "begun").exists()
