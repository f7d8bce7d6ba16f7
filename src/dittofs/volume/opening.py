"""Opening a replica: journal, chunks and tree from what lies on a disk, healed where that is safe."""

from collections.abc import Callable
from typing import Final

import structlog

from dittofs.blocking import RunBlocking
from dittofs.chunks.seal import VolumeKeys
from dittofs.chunks.store import ChunkStore
from dittofs.clock import Clock, Entropy
from dittofs.disk import Disk, read_whole, replace_whole
from dittofs.errors import Damaged, DiskFull, FormatError
from dittofs.identity.keys import Device
from dittofs.ids import slot_of_client
from dittofs.journal.damage import IndexDamaged
from dittofs.journal.database import OtherFormat
from dittofs.journal.journal import Journal
from dittofs.journal.rescue import Loss, rescue, set_aside
from dittofs.tree.record import DOCUMENTS
from dittofs.tree.tree import Tree
from dittofs.volume.authorship import Authorship
from dittofs.volume.braking import end_over, mend_held
from dittofs.volume.carried import put_back
from dittofs.volume.mending import Documents
from dittofs.volume.recovery import RESCUED
from dittofs.volume.replica import CURRENT_INDEX, INDEX_FORMAT, LOCAL_VIA, Replica
from dittofs.volume.writers import KnownDevices, Writers

log = structlog.get_logger()

JOURNAL = "journal.db"
CHUNKS = "chunks"
SUSPECT: Final = "journal.suspect"
SUSPECT_BYTES_MAX: Final = 4096
INITIALISED = "initialised"


def open_replica(
    disk: Disk,
    keys: VolumeKeys,
    *,
    clock: Clock,
    entropy: Entropy,
    run_blocking: RunBlocking,
    label: str,
    machine: str,
    device: Device | None = None,
    known: Callable[[Journal], KnownDevices] | None = None,
) -> Replica:
    """Open the replica that lies on `disk`, made if the disk is empty. Blocking.

    `machine` names this machine and its boot, `device` signs for what is written here, and `known` finds the
    devices of the volume in its journal. On a full disk it is read-only, and finishes opening when
    there is room. Damage that can be mended from what is left (the
    persisted index) is mended; what cannot is named in `journal.damage` and kept aside.
    """
    if not disk.exists(JOURNAL) and any(name.endswith(".pack") for name in disk.listdir(CHUNKS)):
        raise Damaged(JOURNAL, "it is gone, and contents of the volume are here")
    if (reason := suspected(disk)) is not None:
        raise Damaged(JOURNAL, f"a check found it damaged ({reason})")
    journal = Journal.open(disk, JOURNAL)
    try:
        chunks = ChunkStore.open(disk, CHUNKS, keys, entropy=entropy)
        try:
            devices = None if known is None else known(journal)
            return _join(
                journal, chunks, disk, keys, clock, entropy, run_blocking, label, machine, device, devices
            )
        except BaseException:
            chunks.close()
            raise
    except BaseException:
        journal.abandon()
        raise


def suspect(disk: Disk, reason: str) -> None:
    """What an open journal is damaged in cannot be mended as long as it is open: it is opened no more before
    `rescue_replica` has made it anew. Durable on return. Blocking.
    """
    replace_whole(disk, SUSPECT, reason.encode()[:SUSPECT_BYTES_MAX])


def suspected(disk: Disk) -> str | None:
    """What `suspect` said of the journal that lies on `disk`, or None."""
    reason = read_whole(disk, SUSPECT, SUSPECT_BYTES_MAX)
    return None if reason is None else reason.decode(errors="replace")


def rescue_replica(disk: Disk) -> list[Loss]:
    """Make the journal that lies on `disk` one that can be opened; returns what is lost. Blocking.

    Where nothing of it can be read, or it is gone, an empty one awaits the volume from another device. A
    damaged file is kept beside it, and so is what is staged. Errors that mean no damage are raised.
    """
    lost: list[Loss] = []
    reason = ""
    try:
        lost = rescue(disk, JOURNAL, DOCUMENTS, {INITIALISED: b"1"})
    except FileNotFoundError:
        reason = f"{JOURNAL} was gone"
    except OtherFormat:
        raise
    except (Damaged, FormatError) as error:
        reason = f"{error}; it is kept as {set_aside(disk, JOURNAL)}"
    journal = Journal.open(disk, JOURNAL)
    try:
        with journal.transaction():
            journal.put_local(RESCUED, b"", b"")
        if reason:
            Documents(journal).await_all(reason)
            lost = [Loss(f"the whole tree, until another device gives it: {reason}", is_mended=True)]
        journal.sync()
    finally:
        journal.abandon()
    if disk.exists(SUSPECT):
        disk.unlink(SUSPECT)
        disk.sync_directory("")
    return lost


def _join(
    journal: Journal,
    chunks: ChunkStore,
    disk: Disk,
    keys: VolumeKeys,
    clock: Clock,
    entropy: Entropy,
    run_blocking: RunBlocking,
    label: str,
    machine: str,
    device: Device | None,
    devices: KnownDevices | None,
) -> Replica:
    for note in chunks.notes:
        log.info("chunk store recovered", note=note)
    if journal.tail_lost is not None:
        log.info("the end of the journal is missing", detail=journal.tail_lost.detail)
    put_back(journal, chunks)
    full: DiskFull | None = None
    try:
        client_id = journal.claim_writer(entropy, machine)
    except DiskFull as error:
        full, client_id = error, journal.unclaimed_writer(entropy)
    own = set(journal.own_slots())
    own.add(slot_of_client(client_id))
    documents = Documents(journal)
    writers = Writers(keys.volume_id, lambda name: tree.setting(name), devices)
    authorship = Authorship(keys.volume_id, lambda name: tree.setting(name), label, device)
    tree = Tree(
        journal,
        documents,
        client_id=client_id,
        own_slots=own.__contains__,
        device_label=writers.label,
        device_key=writers.key,
        now_ns=clock.now_ns,
        greatest=journal.greatest_stamp(),
        local=journal,
    )
    replica = Replica(
        disk=disk,
        journal=journal,
        tree=tree,
        chunks=chunks,
        clock=clock,
        entropy=entropy,
        run_blocking=run_blocking,
        slot=slot_of_client(client_id),
        own_slots=own,
        writers=writers,
        authorship=authorship,
        boot=machine.encode(),
        documents=documents,
    )
    if full is not None:
        replica.writability.postpone(full, replica.claim_writer)
    mend_held(replica)
    if journal.get_meta(INITIALISED) is None:
        with journal.transaction():
            change = tree.initialise()
            journal.append(journal.next_group, change.updates, LOCAL_VIA)
            journal.put_meta(INITIALISED, b"1")
            journal.put_meta(INDEX_FORMAT, CURRENT_INDEX)
    elif journal.is_index_partial or journal.damage or not _is_index_readable(tree):
        replica.rebuild_index()
    elif journal.get_meta(INDEX_FORMAT) != CURRENT_INDEX:
        log.info("the index is of another format and made anew")
        replica.renew_index()
    replica.mended(tree.recall)
    if full is None:
        end_over(replica)
    return replica


def _is_index_readable(tree: Tree) -> bool:
    try:
        tree.counts()
    except (IndexDamaged, Damaged) as error:
        log.error("persisted index is damaged", reason=str(error))
        return False
    return True
