"""Waiting until what is here is elsewhere too, and saying truthfully when it is not."""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Final, Protocol

import trio

from dittofs.cli.output import counted, human_size
from dittofs.control.sharing import SyncItem, SyncProgress, SyncResult
from dittofs.replication.lonely import SAFE_COPIES, Lonely, Tally
from dittofs.replication.peers import Peers
from dittofs.replication.policy import Policy
from dittofs.volume.volume import Volume

STEP_S: Final = 0.5
CONNECT_S: Final = 6.0
"""How long a device that has just started waits for another one to connect."""
STALL_S: Final = 60.0
"""After so long without a byte more it is given up."""
COUNT_S: Final = 10.0
GRACE_S: Final = 3.0
"""What is only just being sent has so long to arrive before anybody is refused, or goes without it."""
MOVED_BYTES: Final = 16 << 10  # less in that time is questions and pings, no content
UNTAKEN: Final = "what was written here before this device could only read exists only"
NOBODY: Final = "no other device is connected"


class Opened(Protocol):
    """A volume with the sessions it has."""

    @property
    def name(self) -> str: ...

    @property
    def volume(self) -> Volume: ...

    @property
    def peers(self) -> Peers: ...

    @property
    def copies(self) -> Policy: ...


async def sync(opened: Opened, timeout_s: float | None) -> AsyncGenerator[SyncItem, None]:
    """Progress at least every second, then the result: safe, or why not. Ends when nothing more can come."""
    deadline = math.inf if timeout_s is None else trio.current_time() + timeout_s
    volume, peers = opened.volume, opened.peers
    watch = _Watch(opened)

    async def save() -> None:
        await volume.publisher.drain_all()
        await volume.files.sync()

    while not await _attempt(save, deadline) and not watch.is_over(deadline):
        yield watch.progress("saving")
    if peers.others:
        connecting = min(deadline, trio.current_time() + CONNECT_S)
        while not peers.open_sessions and trio.current_time() < connecting:
            await _attempt(peers.changed.wait, connecting)
            yield watch.progress("connecting")
    is_in_step = False
    for step in ("names", "contents", "names"):
        if not peers.open_sessions or (is_in_step and trio.current_time() >= deadline):
            break  # whoever was in step since this began stays so: there is no time to compare again
        watch.rest()
        work = watch.contents if step == "contents" else partial(peers.in_step, trio.current_time())
        while not (is_done := await _attempt(work, deadline)) and not watch.is_over(deadline):
            yield watch.progress(step)
        if step == "names":
            is_in_step = is_done
    await _attempt(volume.holdings.look_again, deadline)  # `status` says from now on what came here
    yield watch.result(
        is_in_step=is_in_step and bool(peers.open_sessions), is_late=trio.current_time() >= deadline
    )


async def only_here(opened: Opened) -> str | None:
    """What is on this device alone and should be sent, as "3 files (41 MB) exist only"; None: nothing.

    What is just on its way has a few seconds to arrive. While it is still counted, that is said.
    """
    peers = opened.peers
    if not peers.others or peers.copies.is_all_on_demand:
        return UNTAKEN if peers.untaken.is_some else None
    return await nowhere_else(opened, but_on_demand=True)


async def nowhere_else(opened: Opened, *, but_on_demand: bool = False) -> str | None:
    """As `only_here`, whatever others should hold: for who is about to give up what is here."""
    peers, custody = opened.peers, opened.peers.custody
    with trio.move_on_after(COUNT_S):
        await opened.volume.publisher.drain_all()
        while custody.is_counting:
            await custody.changed.wait()
    with trio.move_on_after(GRACE_S if peers.open_sessions else 0):
        while _alone(custody.tally(), but_on_demand=but_on_demand)[0]:
            await custody.changed.wait()
    return nowhere_else_now(opened, but_on_demand=but_on_demand)


def _alone(tally: Tally, *, but_on_demand: bool) -> tuple[int, int]:
    """Files and bytes that are on this device alone, and are to be elsewhere too."""
    left, left_bytes = (tally.on_demand, tally.on_demand_bytes) if but_on_demand else (0, 0)
    return tally.only_here - left, tally.only_here_bytes - left_bytes


def nowhere_else_now(opened: Opened, *, but_on_demand: bool = False) -> str | None:
    """As `nowhere_else`, without waiting for anything."""
    tally, pending = opened.peers.custody.tally(), opened.volume.summary()
    files, size_alone = _alone(tally, but_on_demand=but_on_demand)
    files += pending.pending_files
    if files:
        size = human_size(size_alone + pending.pending_bytes)
        return f"{counted(files, 'file')} ({size}) exist{'s' if files == 1 else ''} only"
    if opened.peers.untaken.is_some:
        return UNTAKEN
    return "it is not known yet which files exist only" if tally.is_counting else None


async def _attempt(work: Callable[[], Awaitable[None]], deadline: float) -> bool:
    """Whether `work` ended within a step. It may be begun again."""
    with trio.move_on_at(min(deadline, trio.current_time() + STEP_S)) as scope:
        await work()
    return not scope.cancelled_caught


class _Watch:
    """How far the contents of a volume are, and whether they still move."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._peers = opened.peers
        self._total = 0
        self._moved = (0, 0)
        self._began_at = self._moved_at = trio.current_time()

    async def contents(self) -> None:
        """Return when every content has its copies, or those who are connected cannot give it more."""
        custody = self._peers.custody
        while True:
            changed = custody.changed
            if not custody.is_counting and not self._is_hopeful():
                return
            await changed.wait()

    def _is_hopeful(self) -> bool:
        """Whether a connected device could still take what has too few copies, or bring it here."""
        connected = {session.device for session in self._peers.open_sessions}
        is_coming = self._peers.keeping.bytes_wanted > 0 or trio.current_time() - self._began_at < GRACE_S
        return any(
            one.copies < one.required
            and (
                self._peers.untaken.may_push and not connected <= one.holders
                if one.is_here
                else self._peers.keeping.may_gather(one.root)
                if not one.holders
                else connected & one.holders and (is_coming or not self._may_be_elsewhere(one))
            )
            for one in self._peers.custody.lonely()
        )

    def _may_be_elsewhere(self, one: Lonely) -> bool:
        """Whether devices that cannot be asked from here may hold the copies that are missing: it is for
        those that hold it to see to that.
        """
        unasked = self._peers.out_of_reach() - one.holders
        return bool(one.holders) and one.copies + len(unasked) >= one.required

    def _lacking(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Files and bytes that are not here, and on fewer other devices than the policy asks as far as is
        known; first those of which no other device can have the rest.
        """
        sums = [0, 0], [0, 0]
        for one in self._peers.custody.lonely():
            if not one.is_here and one.copies < one.required and one.required >= SAFE_COPIES:
                total = sums[self._may_be_elsewhere(one)]
                total[0] += len(one.inodes)
                total[1] += len(one.inodes) * one.size
        (short, short_bytes), (unseen, unseen_bytes) = sums
        return (short, short_bytes), (unseen, unseen_bytes)

    def rest(self) -> None:
        """Another step begins: what is waited for may take its time anew."""
        self._began_at = self._moved_at = trio.current_time()

    def is_over(self, deadline: float) -> bool:
        """Whether waiting longer is of no use."""
        tally = self._peers.custody.tally()
        sent = sum(session.outbox.total_bytes for session in self._peers.open_sessions)
        now = trio.current_time()
        unsent, moved = tally.unsent_bytes, sent + self._peers.fetcher.bytes_fetched
        has_moved = unsent != self._moved[0] or abs(moved - self._moved[1]) >= MOVED_BYTES
        if has_moved or tally.is_counting:
            self._moved, self._moved_at = (unsent, moved), now
        return now >= deadline or now - self._moved_at > STALL_S

    def progress(self, step: str) -> SyncProgress:
        tally = self._peers.custody.tally()
        self._total = max(self._total, tally.unsent_bytes)
        is_counting = step == "contents" and tally.is_counting
        return SyncProgress(
            tally.unsent, tally.unsent_bytes, self._total, "counting" if is_counting else step
        )

    def _unconfirmed(self) -> str:
        """What is known when everything has its copies, as last told, and nobody is there to say so again."""
        tally, copies = self._peers.custody.tally(), self._peers.copies.required(())
        if tally.is_counting or copies < SAFE_COPIES:
            return NOBODY
        counts = self._opened.volume.replica.tree.counts()
        here = counts.files - tally.only_here - tally.only_elsewhere - tally.missing
        at_least = "" if copies == SAFE_COPIES and len(self._peers.others) == 1 else " or more"
        which = f"all {counts.files:,}" if here == counts.files else f"{here:,} of {counts.files:,}"
        where = f"on {SAFE_COPIES} devices{at_least}"
        return f"nobody is connected to confirm it; at last count {which} files were {where}"

    def result(self, *, is_in_step: bool, is_late: bool) -> SyncResult:
        """The truth as of now."""
        opened, peers = self._opened, self._peers
        tally, summary = peers.custody.tally(), opened.volume.summary()
        connected = tuple(one.name for one in peers.status() if one.is_connected)
        offline = tuple(one.name for one in peers.status() if not one.is_connected and one.role)
        waiting, unseen, unseen_bytes = summary.pending_files, 0, 0
        reasons = []
        if waiting:
            size = human_size(summary.pending_bytes)
            reasons.append(f"{counted(waiting, 'file')} ({size}) written here and not yet published")
        if peers.others:
            if not connected:
                reasons.append(self._unconfirmed() if not (waiting or tally.unsent) else NOBODY)
            elif not is_in_step:
                reasons.append("the connected devices have not confirmed every change")
            elif peers.untaken.is_some:
                reasons.append(f"{UNTAKEN} here, until an owner lets this device write again")
            if tally.is_counting:
                reasons.append("not everything is counted yet")
            if tally.unsent:
                size = human_size(tally.unsent_bytes)
                files = counted(tally.unsent, "file")
                asks = f"copies = {opened.copies} asks" if not peers.copies.rules else "`dittofs copies` asks"
                reasons.append(f"{files} ({size}) on fewer devices than {asks}")
            (short, short_bytes), (unseen, unseen_bytes) = self._lacking()
            if short:
                size = human_size(short_bytes)
                reasons.append(f"{counted(short, 'file')} ({size}) not here, and on too few other devices")
            if reasons and is_late:
                reasons.append("the time was up")
        return SyncResult(
            volume=opened.name,
            is_safe=not reasons,
            is_alone=not peers.others,
            reason="; ".join(reasons),
            files=tally.unsent + waiting if peers.others else waiting,
            bytes=tally.unsent_bytes + summary.pending_bytes if peers.others else summary.pending_bytes,
            connected=connected,
            offline=offline,
            copies=str(opened.copies),
            unseen=unseen,
            unseen_bytes=unseen_bytes,
            copies_rules=len(peers.copies.rules),
        )
