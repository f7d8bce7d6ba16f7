"""`dittofs conflicts`: what stands aside, how it differs, and what is to become of it."""

import errno
import shlex
from collections.abc import AsyncGenerator, Sequence
from typing import cast

import trio

from dittofs.chunks.content import ContentReader, VersionNode
from dittofs.control.conflicts import (
    Conflict,
    ConflictSide,
    ConflictsRequest,
    Difference,
    Kept,
    Policy,
    PolicyRequest,
    PolicyResult,
    PolicyRule,
    ResolveRequest,
    ResolveResult,
)
from dittofs.control.faults import Refusal
from dittofs.control.paths import components, path_bytes, path_fields
from dittofs.errors import ChunkMissing, ChunkUnavailable, Damaged, FormatError, FSError
from dittofs.merging.conflicts import Conflict as Found
from dittofs.merging.conflicts import Conflicts, Side
from dittofs.merging.lines import TEXT_BYTES_MAX, is_text
from dittofs.merging.merge import NotMerged
from dittofs.merging.policy import (
    BUILT_IN,
    NEVER_MERGED,
    RULES_MAX,
    Policies,
    Rule,
    encode_rule,
    require_pattern,
    rules_in,
    setting_name,
)
from dittofs.merging.resolving import Resolving, Unclear, chosen
from dittofs.merging.unified import unified
from dittofs.node import Node
from dittofs.shared_volume import SharedVolume
from dittofs.tree.record import Kind
from dittofs.volume.events import node_of
from dittofs.volume.published import Published
from mountd.kinds import KIND_NAMES

PART_BYTES = 1 << 20


class ConflictDesk:
    """Answers about the conflicts of all volumes."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def list(self, request: ConflictsRequest) -> AsyncGenerator[Conflict, None]:
        """Each conflict at and below a path."""
        opened = self._node.require_open(request.volume)
        for found in Conflicts(opened.volume.state).walk(components(path_bytes(request))):
            yield await self._told(opened, found, judge=request.judge)

    async def _told(self, opened: SharedVolume, found: Found, *, judge: bool) -> Conflict:
        sides = []
        for side in found.sides:
            sides.append(await self._side(opened, found, side))
        base_ns, reason = 0, ""
        if judge:
            base_ns, reason = await self._judged(opened, found)
        return Conflict(
            **path_fields(found.path + found.name),
            sides=tuple(sides),
            are_versions=found.is_of_versions,
            base_ns=base_ns,
            can_merge=judge and not reason,
            reason=reason,
        )

    async def _side(self, opened: SharedVolume, found: Found, side: Side) -> ConflictSide:
        here = 0
        if side.entry.kind is Kind.FILE and side.size:
            here = await opened.volume.replica.run_blocking(_bytes_here, opened, side.shown)
        return ConflictSide(
            **path_fields(found.path + side.name),
            kind=KIND_NAMES[side.entry.kind],
            device=side.device,
            is_mine=side.is_mine,
            is_shown=side is found.main,
            written_ns=side.written_ns,
            mtime_ns=side.mtime_ns,
            size=side.size,
            bytes_here=here,
        )

    async def _judged(self, opened: SharedVolume, found: Found) -> tuple[int, str]:
        """When the base was written, and why there is no merge."""
        path = found.path + found.name
        if not found.is_of_versions or found.main is None:
            return 0, _no_versions(found)
        base = await _base(opened, found)
        try:
            await opened.merging.merged(found.main.entry.inode, path)
        except NotMerged as reason:
            return (0 if base is None else base.mtime), str(reason)
        except (ChunkUnavailable, ChunkMissing, Damaged) as error:
            return (0 if base is None else base.mtime), str(error)
        if Policies().is_never_merged(path):
            return (0 if base is None else base.mtime), "a program keeps this file and others consistent"
        return (0 if base is None else base.mtime), ""

    async def diff(self, request: ConflictsRequest) -> AsyncGenerator[Difference, None]:
        """The shown version against each other one; then what each made of the base, if that is known."""
        opened = self._node.require_open(request.volume)
        for found in Conflicts(opened.volume.state).walk(components(path_bytes(request))):
            sides = [
                ((found.path + side.name).decode(errors="replace"), side.shown)
                for side in found.sides
                if side.entry.kind is Kind.FILE
            ]
            if found.main is not None and sides:
                for other in sides[1:]:
                    yield await _difference(opened, sides[0], other)
            base = await _base(opened, found) if found.is_of_versions else None
            if base is not None:
                for side in sides:
                    old = Published(base.root, base.size, ())
                    yield await _difference(opened, ("base", old), side)

    async def resolve(self, request: ResolveRequest) -> ResolveResult:
        """End a conflict; durable when it returns. Nothing is lost: what gives way is in the history."""
        opened = self._node.require_open(request.volume)
        opened.volume.replica.require_writable()
        conflicts = Conflicts(opened.volume.state)
        names = components(path_bytes(request))
        found = conflicts.find(names)
        shown = b"/".join(names).decode(errors="replace") or f"{request.volume}:"
        if found is None:
            raise Refusal("not_found", f"{shown} has no conflict; nothing was done", "dittofs conflicts")
        place = shlex.quote(f"{request.volume}:{(found.path + found.name).decode(errors='replace')}")
        try:
            result = await self._resolved(opened, found, request)
        except Unclear as unclear:
            mend = (
                f"dittofs conflicts show {place}    then --keep DEVICE, or mv the one you want over the name"
            )
            raise Refusal("usage", f"{unclear}; nothing was done", mend) from unclear
        except NotMerged as reason:
            mend = f"dittofs conflicts diff {place}    then --keep merged --file FILE, or --keep both"
            raise Refusal("conflicts", f"not merged: {reason}; nothing was done", mend) from reason
        except FSError as error:
            if error.errno == errno.EISDIR:
                text = f"a directory keeps its name against a file; nothing was done to {shown}"
                mend = f"dittofs conflicts resolve {place} --keep both"
                raise Refusal("refused", text, mend) from error
            raise
        await opened.volume.replica.run_blocking(opened.volume.replica.journal.sync)
        return result

    async def _resolved(self, opened: SharedVolume, found: Found, request: ResolveRequest) -> ResolveResult:
        resolving = Resolving(opened.volume)
        place = shlex.quote(f"{request.volume}:{(found.path + found.name).decode(errors='replace')}")
        one_of_them = f"Keep all of them:  dittofs conflicts resolve {place} --keep both\n"
        one_of_them += f"Or one; which there are:  dittofs conflicts show {place}"
        where = path_fields(found.path + found.name)
        gone: Sequence[Side] = ()
        kept: list[Kept] = []
        if request.keep == "both":
            if not request.dry_run:
                for side, name in await resolving.keep_all(found):
                    told = await self._side(opened, found, side)
                    kept.append(Kept(side=told, **path_fields(found.path + name)))
            else:
                for side in found.asides:
                    told = await self._side(opened, found, side)
                    name = resolving.free_name(found, side)
                    kept.append(Kept(side=told, **path_fields(found.path + name)))
        elif request.keep == "merged":
            if not found.is_of_versions or found.main is None:
                raise Refusal(
                    "conflicts", f"not merged: {_no_versions(found)}; nothing was done", one_of_them
                )
            merge = await opened.merging.merged(found.main.entry.inode, found.path + found.name)
            gone = found.sides
            if not request.dry_run:
                await opened.merging.write(merge)
        else:
            side = chosen(found, request.keep)
            gone = [one for one in found.sides if one.ref != side.ref]
            if not request.dry_run:
                gone = await resolving.keep(found, side)
        told_gone = []
        for side in gone:
            told_gone.append(await self._side(opened, found, side))
        left = opened.volume.replica.tree.counts().conflicts
        return ResolveResult(
            **where,
            gone=tuple(told_gone),
            kept=tuple(kept),
            is_merged=request.keep == "merged",
            left=left,
        )

    async def policy(self, request: PolicyRequest) -> PolicyResult:
        """Show, set or remove rules."""
        opened = self._node.require_open(request.volume)
        replica = opened.volume.replica
        rules = rules_in(replica.tree.settings())
        was = ""
        if request.pattern:
            replica.require_writable()
            known = next((rule for rule in rules if rule.pattern == request.pattern), None)
            was = "" if known is None else known.policy
            if not request.policy and known is None:
                text = f"there is no rule about {request.pattern!r}; nothing was done"
                raise Refusal("not_found", text, "dittofs conflicts policy")
            value: bytes | None = None
            if request.policy:
                try:
                    require_pattern(request.pattern)
                except FormatError as error:
                    raise Refusal("usage", str(error), "dittofs conflicts --help") from error
                if known is None and len(rules) >= RULES_MAX:
                    raise Refusal("refused", f"a volume has {RULES_MAX} rules at most", "Remove one first")
                order = max((rule.order for rule in rules), default=0) + 1
                device = replica.authorship.key if request.policy == "mine" else ""
                value = encode_rule(Rule(order, request.pattern, request.policy, device))
            with replica.change() as change:
                change.group.set_setting(setting_name(request.pattern), value)
            await replica.run_blocking(replica.journal.sync)
            rules = rules_in(replica.tree.settings())
        told = (
            PolicyRule(rule.pattern, cast(Policy, rule.policy), replica.writers.called(rule.device))
            for rule in rules
        )
        return PolicyResult(request.volume, tuple(told), was, BUILT_IN, NEVER_MERGED)


def _no_versions(found: Found) -> str:
    """Why there is nothing to merge."""
    if found.main is None:
        return "the name shows nothing any more, and what stands beside it is all there is"
    return "they were made apart under one name, so there is no version that both come from"


async def _base(opened: SharedVolume, found: Found) -> VersionNode | None:
    """The version that all sides come from."""
    nodes = [None if side.version is None else node_of(side.version.node) for side in found.sides]
    known = [node for node in nodes if node is not None]
    if len(known) < len(nodes) or len(known) < 2 or not found.is_of_versions:
        return None
    return await opened.merging.base(known[:1], known[1:])


_Named = tuple[str, Published]


async def _difference(opened: SharedVolume, old: _Named, new: _Named) -> Difference:
    sizes = (old[1].size, new[1].size)
    if max(sizes) <= TEXT_BYTES_MAX:
        before = await opened.merging.read(old[1].root, old[1].size)
        after = await opened.merging.read(new[1].root, new[1].size)
        if is_text([before, after]):
            lines = await opened.volume.replica.run_blocking(unified, old[0], new[0], before, after)
            return Difference(old[0], new[0], *sizes, lines=lines)
    first = await _first_difference(opened, old[1], new[1])
    return Difference(old[0], new[0], *sizes, is_text=False, first=first)


async def _first_difference(opened: SharedVolume, old: Published, new: Published) -> int:
    """Read side by side, and only as far as they are alike."""
    contents, files = opened.volume.state.contents, opened.volume.files
    end = min(old.size, new.size)
    for offset in range(0, end, PART_BYTES):
        parts = []
        for one in (old, new):
            answer = files.read_base(
                contents.reader(one.root, one.size), offset, min(PART_BYTES, end - offset)
            )
            parts.append(answer if isinstance(answer, bytes) else await answer)
        before, after = parts
        if before != after:
            return offset + next(
                at for at, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]
            )
        await trio.lowlevel.checkpoint()
    return end if old.size != new.size else -1


def _bytes_here(opened: SharedVolume, shown: Published) -> int:
    """Blocking."""
    reader = ContentReader(opened.volume.replica.chunks, shown.root, shown.size)
    return sum(part.length for part in reader.presence() if part.is_here)
