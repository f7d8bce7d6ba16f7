"""Staged content and local entries enter the tree: what one transaction of a publication writes."""

from dittofs.ids import ROOT, InodeId, Stamp
from dittofs.tree.naming import CONFLICT, tagged_name
from dittofs.tree.record import Dot, Kind, NewVersion, Owner, Ref
from dittofs.volume.contents import Content
from dittofs.volume.events import REPLACES_POINT
from dittofs.volume.jobs import Job
from dittofs.volume.published import Published
from dittofs.volume.rows import LocalEntry
from dittofs.volume.staging import Layer
from dittofs.volume.state import State
from dittofs.volume.transaction import Transaction


class Entering:
    """Lives as long as its transaction, but for `announce`."""

    def __init__(self, state: State, change: Transaction) -> None:
        self._state = state
        self._change = change
        self._met: list[tuple[InodeId, bytes]] = []
        """Names that somebody else used first."""
        self._revived: list[InodeId] = []
        """Directories that somebody else removed, and that this brings back."""

    def take(self, job: Job) -> Published | None:
        """One file enters the tree. None if it was removed meanwhile."""
        state, content = self._state, job.content
        ref = content.ref if content is not None else job.ref
        if content is not None and state.contents.get(ref) is not content:
            return None
        local = state.local.get(ref[0])
        if local is not None and local.is_ignored:
            return None  # renamed to an ignored name meanwhile
        dot: Dot | None
        node = job.node if job.published.point_over is None else REPLACES_POINT + job.node
        if local is not None:
            mtime, stamp = (local.mtime, Stamp(local.stamp)) if job.layer is None else self._times(job.layer)
            version = NewVersion(job.root, job.size, mtime, node)
            self.create(local, version, max(stamp, Stamp(local.stamp)))
            attributes = state.replica.tree.stat(ref)
            dot = attributes.version.dot if attributes is not None and attributes.version else None
        elif content is None or job.layer is None:
            return None
        else:
            mtime, stamp = self._times(job.layer)
            version = NewVersion(job.root, job.size, mtime, node, content.face)
            job.was_gone = state.replica.tree.stat(ref) is None
            dot = self._write(ref, content, version, stamp)
        replaces = () if dot is None else (dot,)
        rank = job.published.rank if ref[1] else None
        point_over = tuple(job.previous) if self._is_point(job) else None
        published = Published(job.root, job.size, replaces, rank, point_over)
        begun = state.contents.get(ref)
        if content is None and begun is not None:
            state.contents.rebase(begun, published, self._change)
        if content is not None and job.layer is not None:
            state.contents.erase_rows(content, [job.layer])
            if len(content.layers) > 1:
                state.contents.save_advanced(content, published)
        return published

    def _is_point(self, job: Job) -> bool:
        """Whether the writer of what is published has not closed it: what he writes next takes its place."""
        inode = self._state.inodes.of_ref(job.content.ref if job.content is not None else job.ref)
        return inode is not None and inode.writers > 0 and (job.layer is None or not job.layer.is_version)

    def _rank(self, ref: Ref, published: Published) -> Stamp | None:
        """What the next version keeps if the one it continues stands aside by now: its side, and its name."""
        if published.rank is not None:
            return published.rank
        asides = self._state.replica.tree.versions(ref[0])[1:]
        return next((version.rank for version in asides if version.dot in published.replaces), None)

    def _times(self, layer: Layer) -> tuple[int, Stamp]:
        return layer.mtime, layer.stamp

    def create(self, local: LocalEntry, version: NewVersion | None, stamp: Stamp) -> None:
        """A local entry enters the tree with all its names."""
        inode = InodeId(local.inode)
        parent, name = local.names[0]
        name = self._free_name(InodeId(parent), name, stamp)
        if not self._state.replica.tree.members(InodeId(parent)):
            self._revived.append(InodeId(parent))
        kind = Kind(local.kind)
        if kind is Kind.SYMLINK:
            version = NewVersion(local.target, len(local.target), local.mtime, b"")
        self._change.group.create(
            InodeId(parent),
            name,
            kind,
            inode=inode,
            mode=local.mode,
            owner=Owner(*local.owner) if local.owner is not None else None,
            birth=local.birth,
            mtime=local.mtime if version is None else None,
            version=version,
            rdev=local.rdev,
            xattrs=local.xattrs,
            stamp=stamp,
            revives=True,
        )
        for parent, name in local.names[1:]:
            name = self._free_name(InodeId(parent), name, stamp)
            self._change.group.link((inode, None), InodeId(parent), name, stamp=stamp)
        self._state.local.remove(inode, self._change)

    def _free_name(self, parent: InodeId, name: bytes, stamp: Stamp) -> bytes:
        """`name`; or, if another device has used it meanwhile, the name of a conflict entry.

        What was the local file's until now shows the other's, once this is in the tree.
        """
        tree = self._state.replica.tree
        free, tries = name, 0
        while tree.lookup(parent, free) is not None:
            tries += 1
            free = tagged_name(name, CONFLICT, self._state.replica.label, stamp, tries)
        if tries:
            self._met.append((parent, name))
            self._met.append((parent, free))
        return free

    def _write(self, ref: Ref, content: Content, version: NewVersion, stamp: Stamp) -> Dot:
        inode = ref[0]
        group = self._change.group
        published = content.published
        rank = self._rank(ref, published)
        dot = group.write(inode, version, replaces=published.replaces, stamp=stamp, rank=rank)
        taken = content.taken
        if taken is not None:
            group.set_mode(inode, taken.mode, stamp=stamp)
            group.set_owner(inode, Owner(*taken.owner) if taken.owner is not None else None, stamp=stamp)
            present = self._state.replica.tree.xattrs(inode)
            for name in present.keys() | taken.xattrs.keys():
                group.set_xattr(inode, name, taken.xattrs.get(name), stamp=stamp)
        return dot

    def announce(self) -> None:
        """After the commit: the mounts look again where a name shows something else than they were told."""
        for parent, name in self._met:
            above = self._state.inodes.of_ref((parent, None))
            if above is not None:
                self._state.announce(above, name, is_remote=True)
        for directory in self._revived:
            while directory != ROOT:
                self._state.announce_names(directory)
                directory = self._state.replica.tree.parent(directory)


def enter_ignored(state: State, inode: InodeId) -> list[Ref]:
    """A name that was ignored is not any more: it and what is below it enter the tree, files when published.

    Returns the files.
    """
    files: list[Ref] = []
    waiting = [inode]
    while waiting:
        one = waiting.pop(0)
        entry = state.local.get(one)
        if entry is None or entry.is_ignored:
            continue
        if entry.kind == Kind.FILE:
            files.append((one, None))
            continue
        children = state.local.names((one,))
        with state.replica.change() as change:
            Entering(state, change).create(entry, None, Stamp(entry.stamp))
            for name, child in children.items():
                below = state.local.get(child)
                if below is None:
                    continue
                path = state.path(one) + name
                ignored = state.rules.matches(path, is_directory=below.kind == Kind.DIRECTORY)
                if not ignored:
                    below.is_ignored = False
                    state.local.put(below, change)
                    waiting.append(child)
    return files
