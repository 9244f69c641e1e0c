"""Wall time of jobs that wait for each other, worked out by hand."""

from __future__ import annotations

import pytest

from leod.costs.schedule import Task, remaining_path, wall_time

DIAMOND = [Task(3), Task(4, (0,)), Task(1, (0,)), Task(2, (1, 2))]
# A chain of 10 + 10 + 10 and two tasks of 20 that nothing waits for.
CHAIN_AND_OTHERS = [Task(10), Task(10, (0,)), Task(10, (1,)), Task(20), Task(20)]


@pytest.mark.parametrize(
    ("tasks", "cores", "gpus", "expected"),
    [
        ([Task(5), Task(7)], 1, None, 12),
        ([Task(5), Task(7)], 2, None, 7),
        ([Task(5), Task(7)], None, None, 7),
        ([Task(5, gpus=1), Task(7, gpus=1)], None, 1, 12),
        ([Task(5, cores=4), Task(7, cores=4)], 2, None, 12),  # each takes all that there is
        ([Task(5, cores=2), Task(7), Task(6)], 2, None, 12),  # 7 and 6 together, then 5
        (DIAMOND, 1, None, 10),
        (DIAMOND, 2, None, 9),
        (CHAIN_AND_OTHERS, 1, None, 70),
        (CHAIN_AND_OTHERS, 3, None, 30),
        (CHAIN_AND_OTHERS, 2, None, 40),
        ([], 2, None, 0),
    ],
)
def test_wall_time(tasks, cores, gpus, expected):
    assert wall_time(tasks, cores, gpus) == expected


def test_which_task_comes_first_decides():
    # The two of 20 first, then the chain of 30.
    assert wall_time(CHAIN_AND_OTHERS, 2, longest_chain_first=False) == 50
    # Priority wins over either order.
    urgent = [Task(10, priority=1), *CHAIN_AND_OTHERS[1:]]
    assert wall_time(urgent, 2, longest_chain_first=False) == 40


def test_the_longest_chain_behind_a_task():
    assert remaining_path(DIAMOND) == [9, 6, 3, 2]
    assert remaining_path([Task(1, (1,)), Task(2)]) == [1, 3]  # whatever the order of the list
