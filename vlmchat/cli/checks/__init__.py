"""The commonest faults of a machine, each found in a moment and told in a sentence with its fix.

Nothing here loads a model or reaches the network; of a proxy it is asked whether it takes a connection.
"""

from __future__ import annotations

from collections.abc import Iterator

from vlmchat.cli.checks import files, hubs, machine
from vlmchat.cli.checks.problem import Problem, Seen


def problems_of(seen: Seen) -> Iterator[Problem]:
    """Yield every fault that is found."""
    for check in (*files.CHECKS, *machine.CHECKS, *hubs.CHECKS, *machine.GPU_CHECKS):
        yield from check(seen)
