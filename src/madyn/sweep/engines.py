"""Three ways through the same list of units: here, in processes of this machine, on a Ray cluster.

An engine takes units and gives their outcomes, in any order. It schedules nothing by itself: the standard library's
pool and Ray do. A worker that dies takes its unit back to the list.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from madyn.errors import MOST_WORKERS, MadynError, UsageError, check_range
from madyn.processes import DiedError, Workers
from madyn.sweep.clusters import require_ray, start_ray
from madyn.sweep.units import Outcome, Work, finish_cache, measure_unit, prepare

Engine = Callable[[Sequence[Work]], Iterator[Outcome]]

_RESTARTS = 3  # of a pool whose worker died: the same number of tries that Ray is given


def choose_engine(name: str = "local", *, jobs: int = 1, cpus: int = 1, gpus: float = 0) -> Engine:
    """The engine of a name.

    Args:
        name: `local`, `ray` (the cluster that this machine belongs to, or one started here) or `ray://HOST:PORT`.
        jobs: local processes.
        cpus, gpus: what a unit takes of a Ray cluster; it runs with as many threads as CPUs.

    Raises:
        UsageError: there is no such engine, or the number means nothing for it.
    """
    check_range("jobs", jobs, 1, MOST_WORKERS)
    if name == "local":
        return run_here if jobs == 1 else lambda works: run_in_processes(works, jobs)
    if name == "ray" or name.startswith("ray://"):
        if jobs != 1:
            raise UsageError("jobs goes with the local engine; Ray uses what its cluster has")
        check_range("cpus", cpus, 1, MOST_WORKERS)
        if not 0 <= gpus <= MOST_WORKERS:
            raise UsageError(f"gpus is {gpus}; a unit takes from 0 to {MOST_WORKERS}")
        require_ray()
        return lambda works: run_on_ray(works, name.removeprefix("ray").removeprefix("://"), cpus, gpus)
    raise UsageError(f"{name!r} is no engine; it is local, ray, or ray://HOST:PORT")


def run_here(works: Sequence[Work]) -> Iterator[Outcome]:
    """One after another in this process; the next checkpoint is fetched and read while one computes."""
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(prepare, works[0]) if works else None
        for number, work in enumerate(works):
            assert coming is not None
            files, following = coming, number + 1
            result = files.result()
            if following < len(works):
                coming = ahead.submit(prepare, works[following])
            yield measure_unit(work, result)
    if works:
        finish_cache(works[0].settings.keep_cache)


def run_in_processes(works: Sequence[Work], jobs: int) -> Iterator[Outcome]:
    """In processes of this machine, which share its threads."""
    left, died = list(works), 0
    while left:
        threads = max(1, (os.cpu_count() or 1) // jobs)
        running: dict[Future[Outcome], Work] = {}
        try:
            # A user's own function that loads a model may be of the script that runs.
            with Workers(jobs, _start_worker, (threads,), needs_main=True) as pool:
                for outcome, work in _drain(pool, left, running, jobs):
                    left.remove(work)
                    yield outcome
        except DiedError as e:
            died += 1
            if died > _RESTARTS:
                raise MadynError(
                    f"a worker process died {died} times, the last time on one of "
                    f"{', '.join(sorted({str(w.checkpoint) for w in running.values()}))}; out of memory, perhaps: "
                    "use fewer --jobs. What was measured stays"
                ) from e


def _drain(
    pool: Workers, works: Sequence[Work], running: dict[Future[Outcome], Work], jobs: int
) -> Iterator[tuple[Outcome, Work]]:
    """Outcomes as they come, never more units handed out than there are processes to take them and one besides."""
    todo = iter(list(works))
    while True:
        while len(running) <= jobs and (work := next(todo, None)) is not None:
            running[pool.submit(measure_unit, work)] = work
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            outcome = future.result()
            yield outcome, running.pop(future)


def _start_worker(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def run_on_ray(works: Sequence[Work], address: str = "", cpus: int = 1, gpus: float = 0) -> Iterator[Outcome]:
    """As tasks of a Ray cluster: the one at an address, the one that this machine belongs to, or one started here.

    A task that was lost with its node runs again on another. The dataset must lie where every node can write.

    Raises:
        MissingDependencyError: Ray is not installed.
        MadynError: there is no cluster at the address.
    """
    ray = start_ray(address)
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=_RESTARTS)(_measure_on_node)
    todo, running = iter(works), {}
    _refuse_more_than_there_is(ray, cpus, gpus)
    limit = max(1, int(sum(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])) + 1)
    while True:
        while len(running) < limit and (work := next(todo, None)) is not None:
            running[task.remote(work, cpus)] = work
        if not running:
            return
        done, _ = ray.wait(list(running), num_returns=1)
        for reference in done:
            work = running.pop(reference)
            yield _fetched(ray, reference, work)


def _refuse_more_than_there_is(ray: Any, cpus: int, gpus: float) -> None:
    """Ray waits for ever for a node that could take a unit; one machine will not get larger."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if len(nodes) == 1 and (cpus > nodes[0].get("CPU", 0) or gpus > nodes[0].get("GPU", 0)):
        has = f"{nodes[0].get('CPU', 0):g} CPUs and {nodes[0].get('GPU', 0):g} GPUs"
        raise UsageError(f"a unit is to take {cpus} CPUs and {gpus:g} GPUs, and the one node of Ray has {has}")


def _fetched(ray: Any, reference: Any, work: Work) -> Outcome:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as e:
        cause = e.as_instanceof_cause()
        raise (cause if isinstance(cause, MadynError) else MadynError(f"{work.checkpoint}: {e.cause}")) from e
    except ray.exceptions.RayError as e:
        raise MadynError(f"{work.checkpoint}: its task was lost: {str(e).splitlines()[0]}; run it again") from e


def _measure_on_node(work: Work, threads: int) -> Outcome:
    import torch

    torch.set_num_threads(threads)
    return measure_unit(work)


def revisit(works: Sequence[Work]) -> Iterator[Outcome]:
    """Units that other processes held: each is waited for, and measured if its holder died."""
    for work in works:
        yield measure_unit(work, wait=True)
