"""The worker as tasks of a Ray cluster."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

from unibench.cluster.submitting import EXTRA, Resources
from unibench.errors import UsageError

PATIENCE_SECONDS = 20.0  # for a sample; after twice that Ray kills what is left


def run_tasks(
    task: Callable[[int], Any], count: int, resources: Resources, address: str
) -> Iterator[tuple[int, Any]]:
    """Run ``task(number)`` for each number below ``count``; yields number and result, or the error,
    as they end.

    Ray starts a task that was lost with its node elsewhere. Ctrl-C is passed on to the tasks, which
    end with their sample.

    Raises:
        UsageError: there is no Ray, no cluster at the address, or it has GPUs and nothing is said
            about them.
    """
    ray = _connected(address)
    if resources.gpus is None and (there := ray.cluster_resources().get("GPU")):
        raise UsageError(
            f"cluster=ray: give --gpus, how many of the cluster's {there:g} GPUs each worker gets"
            " (0: none); Ray hides the others"
        )
    options = {
        "num_cpus": resources.cpus or 1,
        "num_gpus": resources.gpus or 0,
        "scheduling_strategy": "SPREAD",
    }
    remote = ray.remote(**options, max_retries=resources.requeues)(_called)
    yield from _ended(ray, {remote.remote(task, number): number for number in range(count)})


def on_each_node(task: Callable[[int], Any], address: str) -> Iterator[tuple[int, Any]]:
    """The same, once on each node that is alive."""
    ray = _connected(address)
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    pinned = [
        NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        for node in ray.nodes()
        if node["Alive"]
    ]
    remotes = [ray.remote(num_cpus=0, scheduling_strategy=where)(_called) for where in pinned]
    yield from _ended(
        ray, {remote.remote(task, number): number for number, remote in enumerate(remotes)}
    )


def _called(task: Callable[[int], Any], number: int) -> Any:
    return task(number)


def _ended(ray: Any, running: dict[Any, int]) -> Iterator[tuple[int, Any]]:
    try:
        while running:
            (done, *_), _ = ray.wait(list(running))
            number = running.pop(done)
            try:
                yield number, ray.get(done)
            except ray.exceptions.RayError as error:
                yield number, error
    except KeyboardInterrupt:
        left = list(running)
        for _ in range(2):  # one that comes while a task is being started is lost
            for task in left:
                ray.cancel(task)
            if left:
                _, left = ray.wait(left, num_returns=len(left), timeout=PATIENCE_SECONDS)
        raise
    finally:
        ray.shutdown()


def _connected(address: str) -> Any:
    try:
        import ray
    except ImportError:
        raise UsageError(f"ray is not installed: {EXTRA}") from None
    try:
        host, _, port = address.rpartition(":")
        if port.isdigit():  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, logging_level=logging.ERROR)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"no Ray cluster at --address {address} ({reason}): ray start --head makes one;"
            " RAY_AUTH_MODE=token if it wants a token"
        ) from None
    return ray
