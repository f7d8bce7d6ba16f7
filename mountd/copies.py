"""On how many devices the contents of a volume, or of a path, are to be: `dittofs copies`."""

from dittofs.control.faults import Refusal
from dittofs.control.paths import components, path_bytes, path_fields
from dittofs.control.sharing import CopiesRequest, CopiesResult, CopiesRule
from dittofs.errors import FormatError, FSError
from dittofs.identity.records import Role
from dittofs.ids import ROOT, InodeId
from dittofs.node import Node
from dittofs.replication.policy import Policy
from dittofs.replication.ruling import RulesFull
from dittofs.shared_volume import SharedVolume
from dittofs.tree.record import Kind
from dittofs.volume.browsing import Browsing
from mountd.outsider import outside
from mountd.reports import ROLE_NAMES

INHERIT = "inherit"


class CopiesDesk:
    """Of all volumes of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def copies(self, request: CopiesRequest) -> CopiesResult:
        """See `Service.copies`."""
        opened = self._node.require_open(request.volume)
        path = b"/".join(components(path_bytes(request)))
        inode = await _find(opened, path)
        if not request.copies:
            return _result(opened, inode, path)
        was = str(_holding(opened, inode))
        policy = _wanted(request, was, is_volume=inode == ROOT)
        if gone := outside(opened, "forbidden"):
            raise gone
        if opened.role < Role.WRITER:
            who = f"this device is a {ROLE_NAMES[opened.role]}; it is {was} as before"
            text = f"only writers and owners change how many copies there are, and {who}"
            raise Refusal("forbidden", text, "Run it on one of them:  dittofs devices")
        if inode != ROOT:
            try:
                opened.ruling.bind(inode, policy)
            except RulesFull as error:
                text = f"{error}; it is {was} as before"
                raise Refusal("refused", text, "dittofs copies inherit PATH") from error
        elif policy is not None:
            opened.ruling.set_all(policy)
        replica = opened.volume.replica
        await replica.run_blocking(replica.journal.sync)
        return _result(opened, inode, path, was)


def _wanted(request: CopiesRequest, was: str, *, is_volume: bool) -> Policy | None:
    """The policy that is asked for; None: the one of the directory above."""
    if request.copies == INHERIT and not is_volume:
        return None
    try:
        return Policy.parse(request.copies)
    except FormatError as error:
        raise Refusal("usage", f"{error}; it is {was} as before") from error


async def _find(opened: SharedVolume, path: bytes) -> InodeId:
    """What the path leads to, once it is known to all devices. Refuses what is on this one alone."""
    if not path:
        return ROOT
    try:
        inode = Browsing(opened.volume).find(components(path)).id
        if opened.volume.state.local.get(inode) is not None:
            await opened.volume.publisher.drain()
            inode = Browsing(opened.volume).find(components(path)).id
    except FSError as error:
        raise Refusal("not_found", str(error), f"dittofs list {opened.name}:") from error
    if opened.volume.replica.tree.kind(inode) is None or not opened.volume.replica.tree.names(inode):
        text = f"{path.decode(errors='replace')} is on this device only: it is ignored, or no file"
        raise Refusal("refused", text, f"dittofs list {opened.name}:")
    return inode


def _holding(opened: SharedVolume, inode: InodeId) -> Policy:
    return opened.copies if inode == ROOT else opened.peers.copies.of([inode])


def _result(opened: SharedVolume, inode: InodeId, path: bytes, was: str = "") -> CopiesResult:
    copies, state = opened.peers.copies, opened.volume.state
    shown = {
        state.path(one).rstrip(b"/"): str(policy)
        for one, policy in copies.rules.items()
        if _is_shown(opened, one)
    }
    below = sorted(one for one in shown if one != path and one.startswith(path + b"/" if path else b""))
    nearest = None if inode == ROOT else copies.nearest(inode)
    is_own = inode == ROOT or bool(set(copies.members(inode)) & copies.rules.keys())
    above = b"" if nearest is None or is_own else state.path(nearest).rstrip(b"/")
    return CopiesResult(
        opened.name,
        str(_holding(opened, inode)),
        1 + len(opened.peers.others),
        was,
        is_inherited=not is_own,
        inherited_from=above.decode(errors="replace"),
        rules=tuple(CopiesRule(copies=shown[one], **path_fields(one)) for one in below),
        is_file=opened.volume.replica.tree.kind(inode) is Kind.FILE,
        **path_fields(path),
    )


def _is_shown(opened: SharedVolume, inode: InodeId) -> bool:
    return bool(opened.volume.replica.tree.names(inode))
