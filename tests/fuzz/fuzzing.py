"""Every reader against spoilt files: any bytes give a value or a MadynError, in time and memory that go by their size.

    python tests/fuzz/fuzzing.py --files 100000 --seed 0            # the whole form: all targets, in two processes
    python tests/fuzz/fuzzing.py --files 500 --seed 7 --only table  # one target
    python tests/fuzz/fuzzing.py --noticed --files 5000             # the share of changes that `madyn check` notices

A file is named by its target and a whole number, its seed; `--seed N --files M` takes the seeds from N on, shared out
to the targets in turn, so that a run which was stopped goes on with `--seed` where it was. What fails is printed with
its seed, and `python tests/fuzz/fuzzing.py --show TARGET:SEED` makes that one again. The targets are in
`fuzz_targets.py`.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import multiprocessing
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from fuzz_targets import TARGETS, Target, hold_line, remove_kept
from madyn import terminal
from madyn.dataset.table_cells import as_number
from madyn.errors import MadynError
from mutations import mutations_of

SECONDS = 5.0  # that a call on a small file may take; and a second more for each megabyte
MEMORY = 1 << 30  # that a process may take beyond what it had when it began, in its whole form
RARELY = 50  # calls that take long are made for one file in so many


class TooSlowError(BaseException):
    """The time of a call is over. No Exception, so that no `except Exception` of a reader keeps it."""


@dataclass
class Tally:
    """What came of the files of a target: calls that gave a value or a MadynError, and the findings."""

    files: int = 0
    values: int = 0
    errors: int = 0
    findings: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.files += other.files
        self.values += other.values
        self.errors += other.errors
        self.findings += other.findings


@dataclass(frozen=True)
class Sample:
    """The whole files of a target in a folder of their own."""

    target: Target
    root: Path
    files: list[Path]

    def spoilt(self, seed: int) -> tuple[Path, bytes]:
        """The file that a seed spoils, and its new bytes."""
        rng = random.Random(f"{self.target.name} {seed}")
        file = rng.choice(self.files)
        mutate = rng.choice(mutations_of(file.relative_to(self.root).as_posix()))
        return file, mutate(file.read_bytes(), rng)


@contextmanager
def sample_of(target: Target, whole: Path | None = None) -> Iterator[Sample]:
    """The files of a target in a folder that is removed afterwards; copied, where they were made before."""
    root = Path(tempfile.mkdtemp(prefix=f"madyn-fuzz-{target.name}-"))
    try:
        target.make(root) if whole is None else shutil.copytree(whole, root, dirs_exist_ok=True)
        yield Sample(target, root, sorted(p for p in root.glob(target.files) if p.is_file()))
    finally:
        shutil.rmtree(root, ignore_errors=True)


def warm_up(sample: Sample) -> None:
    """All calls on whole files, which must give values; what they import is there before any bound holds."""
    terminal.set_voice(verbose=False, quiet=True)
    file = sample.files[0]
    whole = {path: path.read_bytes() for path in sample.root.rglob("*") if path.is_file()}
    for call in {**sample.target.calls(sample.root, file), **sample.target.rare(sample.root, file)}.values():
        call()
    for path, content in whole.items():
        path.write_bytes(content)


def fuzz(sample: Sample, seeds: Iterable[int], on_seed: Callable[[int], None] = lambda seed: None) -> Tally:
    """Spoil one file for each seed, make the calls on it, and put the file back."""
    tally = Tally()
    for seed in seeds:
        on_seed(seed)
        file, data = sample.spoilt(seed)
        whole = {path: path.read_bytes() for path in _written_by_rare(sample, seed)}
        whole[file] = file.read_bytes()
        file.write_bytes(data)
        try:
            calls = dict(sample.target.calls(sample.root, file))
            if seed % RARELY == 0:
                calls |= {f"{name} (rare)": call for name, call in sample.target.rare(sample.root, file).items()}
            for name, call in calls.items():
                finding = _try(call, len(data), tally)
                if finding:
                    tally.findings.append(f"{sample.target.name}:{seed} {file.name} {name}: {finding}")
        finally:
            for path, content in whole.items():
                path.write_bytes(content)
        tally.files += 1
    return tally


def _written_by_rare(sample: Sample, seed: int) -> list[Path]:
    """The files that the rare calls may write anew."""
    return [p for p in sample.root.rglob("*") if p.is_file()] if seed % RARELY == 0 else []


def _try(call: Callable[[], Any], size: int, tally: Tally) -> str | None:
    """Make a call; what is wrong with what came of it, or None."""
    limit = SECONDS + size / 1e6
    start = time.perf_counter()
    said = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        signal.signal(signal.SIGALRM, _too_slow)
        signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            call()
            tally.values += 1
        except MadynError as e:
            tally.errors += 1
            try:
                hold_line(str(e))
            except AssertionError as long:
                said = f"{type(e).__name__}: {long}"
        except TooSlowError:
            said = f"slower than {limit:.1f} s"
        except Exception as e:
            where = traceback.extract_tb(e.__traceback__)[-1]
            own = [f for f in traceback.extract_tb(e.__traceback__) if "/madyn/" in f.filename]
            where = own[-1] if own else where
            said = f"{type(e).__name__} in {Path(where.filename).name}:{where.lineno}: {str(e)[:150]!r}"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    took = time.perf_counter() - start
    if said is None and took > limit:
        said = f"took {took:.1f} s"
    if said is None and caught:
        w = caught[0]
        said = f"a {w.category.__name__} leaks, {Path(w.filename).name}:{w.lineno}: {str(w.message)[:100]!r}"
    return said


def _too_slow(*_: object) -> None:
    raise TooSlowError


def noticed(seeds: Iterable[int], kinds: Iterable[str]) -> dict[str, tuple[int, list[int]]]:
    """By kind of file, how many mutations changed a value of a dataset, and the seeds that `check` did not notice."""
    import madyn

    found = {}
    for kind in kinds:
        count, missed = 0, []
        with sample_of(TARGETS[kind]) as sample:
            before = set(madyn.checking.check_dataset(sample.root).faults)
            for seed in seeds:
                file, data = sample.spoilt(seed)
                whole = file.read_bytes()
                if says_the_same(file, whole, data):
                    continue
                count += 1
                file.write_bytes(data)
                try:
                    if not set(madyn.checking.check_dataset(sample.root).faults) - before:
                        missed.append(seed)
                except MadynError:
                    pass
                finally:
                    file.write_bytes(whole)
        found[kind] = (count, missed)
    return found


def says_the_same(file: Path, whole: bytes, data: bytes) -> bool:
    """Whether a change is one of writing alone: of spaces, of a number's digits past its value, or, in a table, of the
    order of rows and of columns that somebody added."""
    try:
        before, after = whole.decode("utf-8-sig"), data.decode("utf-8-sig")
        if file.suffix == ".csv":
            return _cells(before, before) == _cells(after, before)
        return json.dumps(json.loads(before)) == json.dumps(json.loads(after))
    except (ValueError, RecursionError, csv.Error):
        return False


def _cells(text: str, whole: str) -> list[list[str]]:
    """The rows of a table in order, in the columns that the whole one has."""
    columns = next(csv.reader(io.StringIO(whole)))
    header, *rows = [row for row in csv.reader(io.StringIO(text)) if row]
    named = [dict(zip(header, row, strict=True)) for row in rows]
    return sorted([_as_value(row.get(column, "no such column")) for column in columns] for row in named)


def _as_value(cell: str) -> str:
    value = as_number(cell)
    return cell if value is None else repr(value)


CHECKED = ("statistics", "params", "table", "manifest", "probe", "locations", "positions", "training", "monitor")
"""The kinds of file whose changes `check` is to notice."""


# the whole form


def _work(target: str, whole: Path, seeds: range, current: Any, answers: Any) -> None:
    """A chunk in a process of its own, with a bound on its memory."""

    def on_seed(seed: int) -> None:
        current.value = seed

    with sample_of(TARGETS[target], whole) as sample:
        warm_up(sample)
        _bound_memory()
        answers.send(fuzz(sample, seeds, on_seed))


def _bound_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def run_whole(files: int, seed: int, only: list[str], jobs: int, chunk: int) -> dict[str, Tally]:
    """All targets, in chunks of files and in processes; one that hangs or dies is a finding."""
    names = only or list(TARGETS)
    with ExitStack() as made:
        wholes = {name: made.enter_context(sample_of(TARGETS[name])).root for name in names}
        remove_kept()
        return _run_chunks(wholes, files, seed, jobs, chunk)


def _run_chunks(wholes: dict[str, Path], files: int, seed: int, jobs: int, chunk: int) -> dict[str, Tally]:
    names = list(wholes)
    each = -(-files // len(names))
    chunks = [
        (name, range(start, min(start + chunk, seed + each)))
        for start in range(seed, seed + each, chunk)
        for name in names
    ]
    tallies = {name: Tally() for name in names}
    with suppress(KeyboardInterrupt):  # what was done by then is told
        _work_off(chunks, wholes, jobs, tallies)
    print(file=sys.stderr)
    return tallies


def _work_off(chunks: list[tuple[str, range]], wholes: dict[str, Path], jobs: int, tallies: dict[str, Tally]) -> None:
    running: list[tuple[Any, Any, Any, str, range, float]] = []
    context = multiprocessing.get_context("spawn")
    done = 0
    while chunks or running:
        while chunks and len(running) < jobs:
            name, seeds = chunks.pop(0)
            here, there = context.Pipe(duplex=False)
            current = context.Value("q", -1, lock=False)
            process = context.Process(target=_work, args=(name, wholes[name], seeds, current, there), daemon=True)
            process.start()
            there.close()
            running.append((process, here, current, name, seeds, time.monotonic()))
        time.sleep(0.05)
        for entry in list(running):
            process, here, current, name, seeds, began = entry
            answer = _answer(here)
            over = time.monotonic() - began > 120 + 2 * len(seeds)
            if answer is None and process.is_alive() and not over:
                continue
            if answer is None:
                process.kill()
                if current.value < 0:
                    raise RuntimeError(f"{name}: no process gets so far as to read its whole files")
                answer = Tally(findings=[f"{name}:{current.value} the process {'hangs' if over else 'died'}"])
                left = range(current.value + 1, seeds.stop)
                if left:
                    chunks.append((name, left))
            process.join()
            running.remove(entry)
            tallies[name].add(answer)
            done += answer.files
            for finding in answer.findings:
                print(finding, flush=True)
            print(f"\r{done} files", end="", file=sys.stderr, flush=True)


def _answer(here: Any) -> Tally | None:
    try:
        return here.recv() if here.poll() else None
    except EOFError:
        return None


def _print_tallies(tallies: dict[str, Tally]) -> None:
    print(f"{'target':<16}{'files':>10}{'values':>10}{'MadynErrors':>13}{'others':>8}")
    for name, t in tallies.items():
        print(f"{name:<16}{t.files:>10,}{t.values:>10,}{t.errors:>13,}{len(t.findings):>8,}")
    whole = Tally()
    for t in tallies.values():
        whole.add(t)
    print(f"{'all':<16}{whole.files:>10,}{whole.values:>10,}{whole.errors:>13,}{len(whole.findings):>8,}")
    kinds = Counter(finding.split(": ", 1)[-1][:100] for finding in whole.findings)
    for kind, count in kinds.most_common(30):
        print(f"{count:>6}  {kind}")


def _show(name: str) -> None:
    target, seed = name.split(":")
    with sample_of(TARGETS[target]) as sample:
        warm_up(sample)
        file, data = sample.spoilt(int(seed))
        print(f"{file.relative_to(sample.root)}: {len(data)} bytes")
        _print_difference(file.read_bytes(), data)
        print(*fuzz(sample, [int(seed)]).findings, sep="\n")


def _print_difference(whole: bytes, data: bytes) -> None:
    first = next((i for i, (a, b) in enumerate(zip(whole, data, strict=False)) if a != b), min(len(whole), len(data)))
    around = slice(max(0, first - 60), first + 100)
    print(f"first difference at byte {first}:\n- {whole[around]!r}\n+ {data[around]!r}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="spoilt files in all")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument(
        "--only", action="append", default=[], choices=list(TARGETS), help="this target; again for more"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--chunk", type=int, default=250, help="files a process")
    parser.add_argument("--noticed", action="store_true", help="the share of changes that check notices")
    parser.add_argument("--show", metavar="TARGET:SEED", help="make one again")
    given = parser.parse_args()
    if given.show:
        _show(given.show)
        return 0
    if given.noticed:
        kinds = given.only or list(CHECKED)
        found = noticed(range(given.seed, given.seed + -(-given.files // len(kinds))), kinds)
        print(f"{'kind':<16}{'changes':>10}{'noticed':>10}{'share':>9}   seeds not noticed")
        for kind, (count, missed) in found.items():
            share = 1 - len(missed) / max(1, count)
            print(f"{kind:<16}{count:>10,}{count - len(missed):>10,}{share:>9.2%}   {missed[:8]}")
        remove_kept()
        return 0
    tallies = run_whole(given.files, given.seed, given.only, given.jobs, given.chunk)
    _print_tallies(tallies)
    return int(any(t.findings for t in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
