"""Runs as many seeds as one likes, for hours if need be: `sh packaging/dev simulate`.

    simulate --seeds 500 [--seed 1] [--level tree|stack|losses] [--replicas 3] [--fault NAME] [--only 3,14]

`tree`: replicas with their journals. `stack` (else): whole devices, on disks and links that fail. `losses`:
devices let contents go, several at once, while processes die, disks are lost and one is removed. A seed that
fails is told at once; when all have run, the first of them is shrunk to the steps that it takes to fail.
"""

import argparse
import dataclasses
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import structlog
import trio

from tests.property import exchange_histories as histories
from tests.property.exchange_scripts import Script as TreeScript
from tests.simulation.shrinking import shrunken
from tests.simulation.swarm import run
from tests.simulation.swarm_faults import FAULTS, RUN_S, ends_within, planted, suited
from tests.simulation.swarm_script import Script

TELL_EVERY: Final = {"tree": 1000, "stack": 50, "losses": 50}
TRIES: Final = {"tree": 400, "stack": 120, "losses": 120}


def main(arguments: Sequence[str] | None = None) -> int:
    """1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="sh packaging/dev simulate", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seeds", type=int, default=20, help="how many (20)")
    parser.add_argument("--seed", type=int, default=1, help="the first one (1)")
    parser.add_argument("--level", choices=("tree", "stack", "losses"), default="stack")
    parser.add_argument("--replicas", type=int, help="so many in every run; else each seed says")
    parser.add_argument("--fault", choices=sorted(FAULTS), help="plant this fault (stack, losses)")
    parser.add_argument("--only", type=_numbers, help="do these steps only, as a failure shows them")
    chosen = parser.parse_args(arguments)
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is part of a run
        command = [sys.executable, "-m", "tests.simulation.simulate", *(arguments or sys.argv[1:])]
        os.execve(sys.executable, command, {**os.environ, "PYTHONHASHSEED": "0"})
    _quiet()
    begun = time.monotonic()
    failed: list[tuple[int, Exception]] = []
    for count, seed in enumerate(range(chosen.seed, chosen.seed + chosen.seeds), 1):
        try:
            _runner(chosen, seed)(chosen.only)
        except Exception as error:  # noqa: BLE001 - it is told, and the next seed runs
            failed.append((seed, error))
            print(f"seed {seed}: {_first(error)!r:.300}", flush=True)
        if count % TELL_EVERY[chosen.level] == 0:
            print(f"{count} runs, {len(failed)} failed, {time.monotonic() - begun:.0f} s", flush=True)
    took = time.monotonic() - begun
    if failed:
        _tell(chosen, *failed[0])
    print(f"{chosen.seeds} runs, failed: {[seed for seed, _ in failed] or 'none'}, {took:.0f} s")
    return bool(failed)


def _script(chosen: argparse.Namespace, seed: int) -> Script | TreeScript:
    if chosen.level == "stack":
        return suited(Script.of(seed, chosen.replicas), chosen.fault)
    if chosen.level == "losses":
        return Script.of_losses(seed, chosen.replicas)
    script = TreeScript.mixed(seed)
    return dataclasses.replace(script, replicas=chosen.replicas or script.replicas)


def _runner(chosen: argparse.Namespace, seed: int) -> Callable[[Sequence[int] | None], None]:
    """Runs the steps it is given; None: all."""
    script = _script(chosen, seed)

    def act(only: Sequence[int] | None) -> None:
        part = dataclasses.replace(script, only=None if only is None else tuple(only))
        if isinstance(part, TreeScript):
            histories.run_script(part)
        else:
            with planted(chosen.fault), ends_within(RUN_S):
                run(part)

    return act


def _tell(chosen: argparse.Namespace, seed: int, error: Exception) -> None:
    """Print what broke, as short as it can be had."""
    act = _runner(chosen, seed)

    def fails(only: Sequence[int]) -> bool:
        try:
            act(only)
        except Exception:  # noqa: BLE001 - that is what is looked for
            return True
        return False

    print(f"shrinking seed {seed}", flush=True)
    steps = list(chosen.only or _script(chosen, seed).numbers())
    if fails(steps):
        steps = shrunken(steps, fails, tries=TRIES[chosen.level])
    try:
        act(steps)
    except Exception as short:  # noqa: BLE001 - it fails, as found
        error = short
    print("\n".join(getattr(error, "__notes__", [])))
    traceback.print_exception(_first(error))
    print(dataclasses.replace(_script(chosen, seed), only=tuple(steps)))
    options = f"--level {chosen.level}" + (f" --fault '{chosen.fault}'" if chosen.fault else "")
    options += f" --replicas {chosen.replicas}" if chosen.replicas else ""
    print(f"again: sh packaging/dev simulate {options} --seed {seed} --seeds 1 --only {_joined(steps)}")


def _joined(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(one) for one in text.split(",") if one)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    elif not isinstance(error, trio.Cancelled):
        yield error


def _first(error: BaseException) -> BaseException:
    """The innermost of grouped errors that says most."""
    return min(_leaves(error), key=lambda one: not isinstance(one, AssertionError), default=error)


def _quiet() -> None:
    """What is logged is looked at, not shown."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    logging.getLogger().addHandler(logging.NullHandler())


if __name__ == "__main__":
    sys.exit(main())
