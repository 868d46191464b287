"""Functions that the user's modules want to be called around loading and forking."""
from __future__ import annotations

from typing import Any, Callable, List, TypeVar

Hook = TypeVar("Hook", bound=Callable[[], Any])


class Hooks:
    """The functions of this process, in the order in which they were named."""

    def __init__(self) -> None:
        self.preload: List[Callable[[], Any]] = []  # those that have not run yet
        self.before: List[Callable[[], Any]] = []
        self.after: List[Callable[[], Any]] = []

    def run_preload(self) -> None:
        """Run what was not run yet; one that fails is not tried again."""
        while self.preload:
            self.preload.pop(0)()

    def run_before(self) -> None:
        for hook in self.before:
            hook()

    def run_after(self) -> None:
        for hook in self.after:
            hook()


hooks = Hooks()


def preload(function: Hook) -> Hook:
    """
    Decorator: call the function once before any worker runs: in the template when its module has
    been imported, under `spawn` in each worker. For tables that all workers share. Since 0.2.0.
    """
    hooks.preload.append(function)
    return function


def before_fork(function: Hook) -> Hook:
    """Decorator: call the function in the template right before each fork. Since 0.2.0."""
    hooks.before.append(function)
    return function


def after_fork(function: Hook) -> Hook:
    """
    Decorator: call the function in each worker before its entry, under every start method. The
    place for threads, connections, open files, GPU contexts. Since 0.2.0.
    Under "fork" the seed has run it before it comes to its fork point, as worker 0: threads begin
    behind fork_point() there.
    """
    hooks.after.append(function)
    return function
