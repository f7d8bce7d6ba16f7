"""Faults that are planted in the program, so that it shows whether the swarm would find them.

Each is one line somebody could get wrong. `planted` makes it for the time of a run.
"""

import dataclasses
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from unittest.mock import patch

import trio

from dittofs.chunks.chunker import Chunking
from dittofs.chunks.store import ChunkStore
from dittofs.errors import Behind
from dittofs.ids import Slot
from dittofs.journal.journal import Journal
from dittofs.journal.writer import Incarnations
from dittofs.replication import garbage_rounds
from dittofs.replication.custody import Custody
from dittofs.replication.evicting import Evicting
from dittofs.replication.evidence import Asking
from dittofs.replication.keeping import Keeping
from dittofs.replication.live import Live
from dittofs.replication.rounds import Rounds
from dittofs.replication.targets import Target, going
from dittofs.sync import messages as wire
from dittofs.tree import exchange, join, placement, removal
from dittofs.tree.epochs import Joined
from dittofs.tree.group import Group
from dittofs.tree.record import Record, Version
from dittofs.tree.rules import Content, version_order
from dittofs.tree.shard import Epoch, Shard
from dittofs.volume import jobs, publication
from dittofs.volume.carried import Carried
from dittofs.volume.recovery import Recovery
from dittofs.volume.replica import Replica
from tests.property.exchange_histories import run_script
from tests.property.exchange_scripts import Script as TreeScript
from tests.simulation.swarm import run
from tests.simulation.swarm_script import Script

Result = TypeVar("Result")
Fault = Callable[[ExitStack], None]
RUN_S: Final = 300
"""The longest that one run may take, in real time."""


class _Careless:
    """A replica as custody sees it, whose store says it is durable without being so."""

    def __init__(self, replica: Any) -> None:
        self._replica = replica

    def __getattr__(self, name: str) -> Any:
        return getattr(self._replica, name)

    async def run_blocking(self, function: Callable[..., Result], /, *args: Any) -> Result | None:
        if getattr(function, "__func__", None) is ChunkStore.sync:
            await trio.lowlevel.checkpoint()
            return None
        return await self._replica.run_blocking(function, *args)  # type: ignore[no-any-return]


def _holds_before_sync(stack: ExitStack) -> None:
    """A device says that it holds what a power cut would take."""
    for kind in (Custody, Keeping):
        made = kind.__init__

        def careless(self: Any, replica: Any, *args: Any, made: Any = made, **named: Any) -> None:
            made(self, _Careless(replica), *args, **named)

        stack.enter_context(patch.object(kind, "__init__", careless))


def _publish_before_durable(stack: ExitStack) -> None:
    """A version is published while its chunks are in the cache of the operating system only."""

    def store(chunks: ChunkStore, slot: Slot, some: Sequence[jobs.Job], chunking: Chunking) -> None:
        for job in some:
            jobs.store_job(chunks, slot, job, chunking)

    for module in (publication, jobs):
        stack.enter_context(patch.object(module, "store_jobs", store))
    stack.enter_context(patch.object(Carried, "carry", lambda *_: None))


def _writer_after_crash(stack: ExitStack) -> None:
    """After a crash the same writer goes on, from an earlier state."""
    claim = Incarnations.claim

    def reuse(self: Incarnations, entropy: Any, machine: str, *, may_reuse: bool) -> int:
        if self._last is None:
            return claim(self, entropy, machine, may_reuse=may_reuse)
        self._claimed = self._last
        return self._last.client_id

    stack.enter_context(patch.object(Incarnations, "claim", reuse))


def _split_group(stack: ExitStack) -> None:
    """What one change did is shown document by document."""
    receive = Replica.receive

    def one_by_one(self: Replica, updates: Sequence[tuple[int, Epoch, bytes]], via: bytes) -> bool:
        return sum(receive(self, [update], via) for update in updates) > 0

    stack.enter_context(patch.object(Replica, "receive", one_by_one))


def _last_writer_wins(stack: ExitStack) -> None:
    """Who writes replaces what others wrote meanwhile."""
    write = Group.write

    def over_all(self: Group, inode: Any, *args: Any, replaces: Any, **named: Any) -> Any:
        present = self._writing.rows.inode(inode).meaning
        dots = [one.version.dot for one in present.contents] if present is not None else []
        return write(self, inode, *args, replaces=tuple({*replaces, *dots}), **named)

    stack.enter_context(patch.object(Group, "write", over_all))


def _behind_ignored(stack: ExitStack) -> None:
    """A gap in what comes is passed over, and digests that differ are not looked into."""

    def apply(self: Live, sequence: int, updates: Any) -> None:
        with suppress(Behind):
            self._replica.receive(updates, self._session.device)
        self.received = sequence
        self._note_applied(sequence)

    def compare(self: Rounds, root: bytes, sequence: int) -> None:
        del self, root, sequence

    stack.enter_context(patch.object(Live, "_apply", apply))
    stack.enter_context(patch.object(Rounds, "compare", compare))


def _acknowledge_before_durable(stack: ExitStack) -> None:
    """A change is acknowledged that a power cut would take."""

    async def acknowledge(self: Live) -> None:
        while True:
            await self._has_unacknowledged.wait()
            self._has_unacknowledged = trio.Event()
            sequence = self._applied
            if sequence > self._acknowledged_here:
                self._acknowledged_here = sequence
                self._session.send(wire.Ack(sequence))

    stack.enter_context(patch.object(Live, "acknowledge", acknowledge))


def _lossy_adoption(stack: ExitStack) -> None:
    """Who takes over a fresh epoch forgets what it alone knew."""

    def forget(fresh: Shard, old: Shard, number: int) -> Joined:
        del number
        return Joined([], set(fresh.records()) | set(old.records()), set())

    stack.enter_context(patch.object(exchange, "join_into", forget))


def _old_nonce(stack: ExitStack) -> None:
    """A store from a backup goes by the name of the one it was, and says that it told as much as any."""

    def nonce(self: Custody) -> bytes:
        found = self._replica.journal.get_local("custody", b"")
        return found if found is not None else self.renew()

    stack.enter_context(patch.object(Custody, "nonce", property(nonce)))
    stack.enter_context(patch.object(Custody, "told", property(lambda _self: 1 << 40)))


def _dropped_sync(stack: ExitStack) -> None:
    """The journal is never put on the platter, and nobody is told."""
    stack.enter_context(patch.object(Journal, "sync", lambda _self: None))


def _no_cycle_breaking(stack: ExitStack) -> None:
    """Directories that two devices moved below each other are left as they are."""
    stack.enter_context(patch.object(placement, "displaced", lambda _candidates, _place_of: {}))


def _latest_only(stack: ExitStack) -> None:
    """Of contents that were written apart the join keeps the latest."""
    versions = join._versions

    def latest(a: Record, b: Record) -> tuple[Version, ...]:
        kept = versions(a, b)
        return kept if a.versions == b.versions else (max(kept, key=version_order),) if kept else ()

    stack.enter_context(patch.object(join, "_versions", latest))


def _staged_forgotten(stack: ExitStack) -> None:
    """What was closed and not published when the process died is not looked for."""
    stack.enter_context(patch.object(Recovery, "_recover", lambda _self, _ref, **_how: None))


def _removal_reaches_on(stack: ExitStack) -> None:
    """Who removes a content removes what its writer writes there afterwards, too."""

    def reaching(content: Content) -> dict[Slot, int]:
        return {slot: n + 100 for slot, n in content.dots}

    stack.enter_context(patch.object(removal, "_context_of", reaching))


def _unasked_sweep(stack: ExitStack) -> None:
    """Chunks that nothing names here are swept, whatever others may yet make of them."""
    stack.enter_context(patch.object(garbage_rounds, "outstanding", lambda *_: []))


def _evict_without_proof(stack: ExitStack) -> None:
    """Whoever is connected is taken to have what a device lets go."""

    async def prove(self: Asking, targets: Sequence[Target]) -> None:
        await trio.lowlevel.checkpoint()
        for target in going(targets):
            target.provers.update(dict.fromkeys(self._peers.open_sessions))
            if not target.provers:
                target.why = "nobody is connected"

    stack.enter_context(patch.object(Asking, "prove", prove))


def _proof_of_the_gone(stack: ExitStack) -> None:
    """Who has proven a content counts, though he has gone by the time at which that goes."""
    stack.enter_context(patch.object(Evicting, "_stands", lambda *_: True))


@dataclass(frozen=True, slots=True)
class Plant:
    """A fault: how it is made, within how many seeds it must be found, by which misfortunes (none: any)."""

    make: Fault
    allowed: int
    misfortunes: tuple[str, ...] = ()
    level: str = "stack"


_CRASHES = ("kill", "power cut")
_APART = ("part", "alone")
FAULTS: Final = {
    "holds before sync": Plant(_holds_before_sync, 20),
    "publish before durable": Plant(_publish_before_durable, 20),
    "same writer after a crash": Plant(_writer_after_crash, 20, _CRASHES),
    "split group": Plant(_split_group, 20),
    "last writer wins": Plant(_last_writer_wins, 20, _APART),
    "behind ignored": Plant(_behind_ignored, 20, ("compact", "restart")),
    "acknowledge before durable": Plant(_acknowledge_before_durable, 20),
    "lossy adoption": Plant(_lossy_adoption, 40, ("compact", *_APART)),
    "dropped sync": Plant(_dropped_sync, 20, (*_CRASHES, "restart")),
    "latest only": Plant(_latest_only, 20, _APART),
    "staged content forgotten": Plant(_staged_forgotten, 20, ("kill", "restart")),
    "removal reaches on": Plant(_removal_reaches_on, 40, _APART),
    "old nonce": Plant(_old_nonce, 40, ("back up", "restore", "audit", "policy")),
    "sweep without acknowledgement": Plant(_unasked_sweep, 60, ("collect", *_APART)),
    "evict without proof": Plant(_evict_without_proof, 20, level="losses"),
    "proof from a device that is gone": Plant(_proof_of_the_gone, 40, level="losses"),
    "no cycle breaking": Plant(_no_cycle_breaking, 100, level="tree"),
}


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """The program with one fault; None: as it is."""
    with ExitStack() as stack:
        if name is not None:
            FAULTS[name].make(stack)
        yield


@contextmanager
def ends_within(seconds: int) -> Iterator[None]:
    """What runs longer fails: a fault may make it go round in circles."""

    def stop(_signal: int, _frame: object) -> None:
        raise TimeoutError(f"the run does not end within {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def suited(script: Script, fault: str | None) -> Script:
    """The script with what it takes to meet a fault."""
    misfortunes = FAULTS[fault].misfortunes if fault is not None else ()
    if not misfortunes:
        return script
    return dataclasses.replace(
        script, replicas=min(script.replicas, 4), events=20, steps=40, misfortunes=misfortunes, readers=0
    )


def finds(fault: str, *, first: int) -> int | None:
    """How many seeds it takes to find a planted fault; None: not within those it is allowed.

    Raises what breaks without the fault, too.
    """
    for number in range(FAULTS[fault].allowed):
        try:
            with planted(fault), ends_within(RUN_S):
                _run(fault, first + number)
        except Exception:  # noqa: BLE001 - whatever breaks shows the fault
            _run(fault, first + number)
            return number + 1
    return None


def _run(fault: str, seed: int) -> None:
    if FAULTS[fault].level == "tree":
        run_script(TreeScript.mixed(seed))
    elif FAULTS[fault].level == "losses":
        run(Script.of_losses(seed))
    else:
        run(suited(Script.of(seed), fault))
