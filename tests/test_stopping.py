"""Workers end with their parent, and every command ends when it is told to, once or often, with nothing left running.

All of it with real processes and real signals. What is asserted of time is the promise itself, with room for a machine
that does other things too.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from madyn.dataset import layout, partial
from madyn.dataset.partial import making_folder, replacing
from madyn.processes import DiedError, Workers, in_order
from tiny import TEXT, save_checkpoints, write_dataset

PROMISED = 5.0  # seconds
ROOM = 15.0  # for the machine


def write_ticks(folder, number, seconds=60.0, deaf=False):
    """Add to a file again and again, as a worker that goes on writing would."""
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with Path(folder, f"{number}-{os.getpid()}").open("a") as file:
            file.write(".")
        time.sleep(0.02)


def fail_on(number, at):
    if number == at:
        raise ValueError(number)
    return number


_PARENT = """
import sys
sys.path.insert(0, sys.argv[1])
from test_stopping import write_ticks, Workers
with Workers(2) as workers:  # with no `if __name__` around it
    for number in range(2):
        workers.submit(write_ticks, sys.argv[2], number)
"""


def start(command, **named):
    """Start a command as a terminal would, with signals as they are by default, in a session of its own."""

    def as_a_terminal():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    return subprocess.Popen(
        command,
        preexec_fn=as_a_terminal,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **named,
    )


def wait_for(condition, seconds=240.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come that far"
        time.sleep(0.02)


def wait_until_ready(process):
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"


def session_of(process):
    """What runs in the session that a command began, itself among it."""
    found = []
    for one in psutil.process_iter():
        try:
            if os.getsid(one.pid) == process.pid and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def workers_of(process):
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def end_session(process):
    for one in session_of(process):
        one.kill()


def finish(process):
    """What a command that was told to stop said, how long it took, and what it left running."""
    begun = time.monotonic()
    try:
        out, err = process.communicate(timeout=60)
        seconds = time.monotonic() - begun
        time.sleep(0.2)  # multiprocessing's own helper ends when it sees that the command has
        left = [" ".join(one.cmdline()) for one in session_of(process)]
    finally:
        end_session(process)
    return out.decode(), err.decode(), seconds, left


def test_workers_of_a_parent_that_is_killed_write_no_more(tmp_path):
    process = start([sys.executable, "-c", _PARENT, str(Path(__file__).parent), str(tmp_path)])
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
    process.kill()
    process.communicate()
    wait_for(lambda: not session_of(process), ROOM)
    before = {path: path.stat().st_size for path in tmp_path.iterdir()}
    time.sleep(0.2)
    assert {path: path.stat().st_size for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("deaf", [False, True], ids=["in order", "killed"])
def test_an_error_ends_the_workers_even_those_that_ignore_it(tmp_path, deaf):
    workers = Workers(2)
    for number in range(2):
        workers.submit(write_ticks, tmp_path, number, 60.0, deaf)
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
    begun = time.monotonic()
    with pytest.raises(ZeroDivisionError), workers:
        raise ZeroDivisionError
    assert time.monotonic() - begun < ROOM
    pids = [int(path.name.partition("-")[2]) for path in tmp_path.iterdir()]
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


def test_a_worker_that_dies_is_told(tmp_path):
    with pytest.raises(DiedError), Workers(1) as workers:
        workers.submit(os._exit, 1).result()


def test_where_one_worker_died_the_others_begin_nothing_new(tmp_path):
    workers = Workers(2)
    calls = [workers.submit(write_ticks, tmp_path, number) for number in range(4)]
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
    begun = time.monotonic()
    psutil.Process(int(next(tmp_path.iterdir()).name.partition("-")[2])).kill()
    with pytest.raises(DiedError), workers:
        calls[-1].result()
    assert time.monotonic() - begun < ROOM
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {"0", "1"}


def test_in_order():
    assert list(in_order(fail_on, [(i, -1) for i in range(7)], 2)) == list(range(7))
    assert list(in_order(fail_on, [(i, -1) for i in range(3)], 1)) == [0, 1, 2]
    assert list(in_order(fail_on, [], 2)) == []
    found = []
    with pytest.raises(ValueError, match="3"):
        found += in_order(fail_on, [(i, 3) for i in range(9)], 2)


_STOPPABLE = """
import sys, threading, time
from madyn.stopping import stoppable
{setting}
with stoppable() as stop:
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        {closing}
    finally:
        print("closed", flush=True)
sys.exit(stop.code)
"""


@pytest.mark.parametrize(
    ("setting", "closing", "ended"),
    [
        ("", "pass", "closed"),
        ("", "time.sleep(60)", ""),  # what closes does not end
        ("threading.Thread(target=time.sleep, args=(60,)).start()", "pass", "closed"),  # nor a thread
        ("", "[list(range(1000)) for _ in iter(int, 1)]", ""),  # it does not let go
    ],
    ids=["in order", "closing hangs", "a thread hangs", "busy"],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_whatever_hangs_a_signal_ends_it(setting, closing, ended, number):
    process = start([sys.executable, "-c", _STOPPABLE.format(setting=setting, closing=closing)])
    wait_until_ready(process)
    for _ in range(3):
        process.send_signal(number)
        time.sleep(0.1)
    out, err, seconds, left = finish(process)
    assert process.returncode == 128 + number
    assert not left
    assert out.strip() == ended
    assert seconds < ROOM
    assert "Traceback" not in err


def test_a_callback_that_swallows_the_first_signal_does_not_keep_the_command_going():
    """Python says "Exception ignored" of what is raised in a callback of the collector, and goes on."""
    deaf = "class Deaf:\n    def __del__(self):\n        print('ready', flush=True); time.sleep(2)"
    text = _STOPPABLE.format(setting=deaf, closing="pass").replace('print("ready", flush=True)', "Deaf()")
    process = start([sys.executable, "-c", text])
    wait_until_ready(process)
    process.send_signal(signal.SIGTERM)
    out, err, seconds, left = finish(process)
    assert process.returncode == 128 + signal.SIGTERM
    assert (out.strip(), err, left) == ("closed", "", [])
    assert seconds < ROOM


def hold_open(folder):
    """A worker that has half a file and half a folder, and is about to make another of each."""
    with replacing(Path(folder, "a")), making_folder(Path(folder, "b")) as half:
        (half / "c").touch()
        partial._begin(Path(folder, "d"))
        Path(folder, "begun").touch()
        time.sleep(60)


def test_a_worker_that_is_told_to_leave_leaves_nothing_half_written(tmp_path):
    workers = Workers(1)
    workers.submit(hold_open, tmp_path)
    wait_for((tmp_path / "begun").exists)
    assert len(list(tmp_path.glob(".*.partial"))) == 2
    with pytest.raises(ZeroDivisionError), workers:
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["begun"]


def test_a_signal_that_is_ignored_stays_so(tmp_path):
    ignored = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    process = start([sys.executable, "-c", _STOPPABLE.format(setting=ignored, closing="pass")])
    wait_until_ready(process)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    finish(process)
    assert process.returncode == 128 + signal.SIGTERM


SUITE = """
name = "stopped"
recipe = {{ steps = 100000, batch_size = 4, length = 16 }}
text = {{ source = {book!r}, vocab_size = 300 }}
measure = {{ source = {book!r}, steps = [0, 100000], sequences = 2, loss_sequences = 2 }}
model = [{{ hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, seeds = [0, 1, 2] }}]
"""


def lab(folder):
    (folder / "book.txt").write_text(TEXT)
    (folder / "suite.toml").write_text(SUITE.format(book=str(folder / "book.txt")))
    command = ["lab", folder / "suite.toml", "--out", folder / "out", "--jobs", "2"]
    return command, lambda: any((folder / "out").glob("*/stats/*"))


def traced(folder):
    """Many checkpoints, one after another or in processes."""
    (folder / "book.txt").write_text(TEXT)
    save_checkpoints(folder / "run", steps=tuple(range(40)))
    command = ["trace", folder / "run", "--out", folder / "out", "--probe", folder / "book.txt", "--sequences", "2"]
    return [*command, "--length", "16"], lambda: any((folder / "out").glob("*/stats/*"))


def traced_in_processes(folder):
    command, begun = traced(folder)
    return [*command, "--jobs", "2"], begun


def drawn(folder):
    root = write_dataset(folder / "out", models=tuple(f"pythia_{n}m" for n in (14, 70, 160, 410)))
    return ["figures", root, "--jobs", "2"], lambda: any(root.rglob("*.png"))


def fitted(folder):
    root = write_dataset(folder / "out", models=tuple(f"m{n}" for n in range(60)))
    return ["fit", root, "--method", "trf"], lambda: any(root.glob("*/params/*"))


COMMANDS = [lab, traced, traced_in_processes, drawn, fitted]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("signals", [["SIGINT"] * 5, ["SIGTERM"]], ids="+".join)
def test_a_command_that_writes_ends_when_told_to(tmp_path, command, signals):
    """All that was begun is over, its files are whole, and nothing that it wrote on the way is left."""
    arguments, begun = command(tmp_path)
    process = start([Path(sys.executable).with_name("madyn"), *map(str, arguments)])
    try:
        wait_for(lambda: begun() or process.poll() is not None)
        assert process.poll() is None, "it was done before it was stopped"
        for name in signals:
            if process.poll() is None:
                os.killpg(process.pid, getattr(signal, name)) if name == "SIGINT" else process.terminate()
                time.sleep(0.15)
    except BaseException:
        end_session(process)  # a command that never came that far would run on beside all other tests
        raise
    _, err, seconds, left = finish(process)
    print(f"{command.__name__} {'+'.join(signals)}: {seconds:.1f} s")
    assert process.returncode == 128 + getattr(signal, signals[0]), err
    assert seconds < ROOM
    assert not left
    assert "Traceback" not in err
    assert "goes on from there" in err
    root = tmp_path / "out"
    assert not [p for p in root.rglob(".*") if p.is_file() and p.name.endswith(".partial")]
    for model in layout.model_directories(root):
        for path in layout.statistics_files(root, model).values():
            assert path.read_bytes()[-1:] == b"]"
