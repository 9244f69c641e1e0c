"""How long jobs take together on a number of cores and GPUs: list scheduling over what they wait for."""

from __future__ import annotations

import heapq
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One job as the scheduler sees it.

    Attributes:
        seconds: How long it runs.
        after: Positions of the tasks that have to be done before.
        cores: CPU cores that it takes.
        gpus: GPUs that it takes.
        priority: Tasks of higher priority start first.
    """

    seconds: float
    after: tuple[int, ...] = ()
    cores: int = 1
    gpus: int = 0
    priority: int = 0


def remaining_path(tasks: SequenceOf[Task]) -> list[float]:
    """For each task the seconds from its start to the end of the longest chain of tasks that it is the first of."""
    followers: list[list[int]] = [[] for _ in tasks]
    for number, task in enumerate(tasks):
        for before in task.after:
            followers[before].append(number)
    longest = [0.0] * len(tasks)
    for number in reversed(_in_order(tasks, followers)):
        longest[number] = tasks[number].seconds + max((longest[each] for each in followers[number]), default=0.0)
    return longest


def wall_time(
    tasks: SequenceOf[Task], cores: int | None, gpus: int | None = None, longest_chain_first: bool = True
) -> float:
    """Seconds from the start of the first task to the end of the last one.

    Whenever something becomes free, tasks that can start do so in the order of priority; a task that does not fit is
    passed over for the next one that does, as Snakemake does. A task that wants more than there is takes all of it.

    Args:
        tasks: The tasks.
        cores: CPU cores; None = any number.
        gpus: GPUs; None = any number.
        longest_chain_first: Which of two tasks of the same priority starts first: the one that more is waiting for, or
            the one that less is. Snakemake's choice is neither; the two are the ends of what can happen.
    """
    chain = remaining_path(tasks)
    sign = -1.0 if longest_chain_first else 1.0
    waiting_for = [len(set(task.after)) for task in tasks]
    followers: list[list[int]] = [[] for _ in tasks]
    for number, task in enumerate(tasks):
        for before in set(task.after):
            followers[before].append(number)
    ready = [(-task.priority, sign * chain[n], n) for n, task in enumerate(tasks) if not waiting_for[n]]
    running: list[tuple[float, int]] = []
    free_cores, free_gpus = _limit(cores), _limit(gpus)
    now = 0.0
    while ready or running:
        left = []
        for entry in sorted(ready):
            task = tasks[entry[2]]
            wanted = min(task.cores, _limit(cores)), min(task.gpus, _limit(gpus))
            if wanted[0] > free_cores or wanted[1] > free_gpus:
                left.append(entry)
                continue
            free_cores, free_gpus = free_cores - wanted[0], free_gpus - wanted[1]
            heapq.heappush(running, (now + task.seconds, entry[2]))
        ready = left
        now, done = heapq.heappop(running)
        free_cores += min(tasks[done].cores, _limit(cores))
        free_gpus += min(tasks[done].gpus, _limit(gpus))
        for number in followers[done]:
            waiting_for[number] -= 1
            if not waiting_for[number]:
                ready.append((-tasks[number].priority, sign * chain[number], number))
    return now


def _limit(number: int | None) -> float:
    return float("inf") if number is None else number


def _in_order(tasks: SequenceOf[Task], followers: list[list[int]]) -> list[int]:
    """The tasks, each behind those that it waits for."""
    waiting_for = [len(task.after) for task in tasks]
    order = [number for number, count in enumerate(waiting_for) if not count]
    for number in order:
        for follower in followers[number]:
            waiting_for[follower] -= 1
            if not waiting_for[follower]:
                order.append(follower)
    return order
