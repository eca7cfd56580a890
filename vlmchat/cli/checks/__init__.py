"""The commonest faults of a machine, each found in a moment and told in a sentence with its fix.

Nothing here loads a model or reaches the network; of a proxy it is asked whether it takes a connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vlmchat.cli.checks import files, hubs, machine
from vlmchat.cli.checks.problem import Problem
from vlmchat.settings import Settings


def problems_of(settings: Settings, gpus: Sequence[str]) -> Iterator[Problem]:
    """Yield every fault that is found.

    Args:
        settings: those in force.
        gpus: name, memory and driver version of each, as the driver's own tool says them.
    """
    for check in (*files.CHECKS, *machine.CHECKS, *hubs.CHECKS):
        yield from check(settings)
    for look in machine.GPU_CHECKS:
        yield from look(settings, gpus)
