"""Unpublished content: for each inode a stack of layers, the lowest published first."""

import base64
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from dittofs.chunks.content import ContentReader
from dittofs.errors import Damaged, FormatError
from dittofs.ids import Slot, Stamp
from dittofs.tree.record import Ref
from dittofs.volume.published import Published
from dittofs.volume.replica import Replica
from dittofs.volume.rows import ContentRow, Increment, LayerRow, Taken, content_key, decode, encode
from dittofs.volume.staging import Base, Layer, Nothing, StagingGone
from dittofs.volume.transaction import Transaction

LAYER_ID_BYTES = 12
READERS_MAX = 64
SEQUENCE_BYTES = 4
DEPTH_MAX = 32  # layers of one content: each is a call deeper when it is read


@dataclass(slots=True)
class Content:
    """What was written and is not in the tree. At least one layer."""

    ref: Ref
    published: Published
    layers: list[Layer] = field(default_factory=list)
    face: int = 0
    taken: Taken | None = None
    is_flushed: bool = False
    """Saved whole by a close(2), with nothing written since."""
    is_saved: bool = False
    """The journal knows all of it."""
    is_fsynced: bool = False
    """A program asked for durability since the last publication began."""

    @property
    def top(self) -> Layer:
        return self.layers[-1]

    @property
    def size(self) -> int:
        return self.layers[-1].size


class Contents:
    """All unpublished content of a replica, in memory and in the journal's rows."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._contents: dict[Ref, Content] = {}
        self._resting: set[Ref] = set()  # rows that stay local and are read when somebody asks
        self._readers: dict[bytes, ContentReader] = {}
        self._doomed: list[Layer] = []
        self.unreadable: dict[Ref, Damaged | FormatError] = {}
        """What is staged for these cannot be read, and why."""

    def __iter__(self) -> Iterator[Content]:
        return iter(list(self._contents.values()))

    def __len__(self) -> int:
        return len(self._contents)

    def get(self, ref: Ref) -> Content | None:
        content = self._contents.get(ref)
        if content is not None:
            return content
        if ref in self.unreadable:
            raise self.unreadable[ref]
        if ref in self._resting:
            try:
                content = self._contents[ref] = self.load(ref)
            except (Damaged, FormatError) as error:
                self.unreadable[ref] = error
                raise
            finally:
                self._resting.discard(ref)
            content.top.is_closed = False  # nobody publishes it: the next write needs no layer of its own
        return content

    def __contains__(self, ref: Ref) -> bool:
        return ref in self._contents or ref in self._resting or ref in self.unreadable

    def peek(self, ref: Ref) -> Content | None:
        """As `get`; None for what cannot be read, so that its name and its neighbours can be seen."""
        try:
            return self.get(ref)
        except (Damaged, FormatError):
            return None

    def reader(self, root: bytes, size: int) -> Base:
        """Reads published bytes."""
        if not root and not size:
            return Nothing()
        reader = self._readers.pop(root, None)
        if reader is None or reader.size != size:
            reader = ContentReader(self._replica.chunks, root, size)
        self._readers[root] = reader
        if len(self._readers) > READERS_MAX:
            del self._readers[next(iter(self._readers))]
        return reader

    def begin(self, ref: Ref, published: Published) -> Content:
        """Start writing over `published`."""
        assert ref not in self._contents
        content = self._contents[ref] = self.orphan(ref, published)
        return content

    def orphan(self, ref: Ref, published: Published) -> Content:
        """Content of a file without a name: it is never saved."""
        content = Content(ref, published)
        base = self.reader(published.root, published.size)
        content.layers.append(self._layer(base, published.size))
        return content

    def writable(self, content: Content) -> Layer:
        """The layer that takes the next write: a fresh one over what is closed.

        Above DEPTH_MAX unpublished closes the last one is continued instead, so that reading stays bounded.
        """
        top = content.top
        if top.is_closed and len(content.layers) >= DEPTH_MAX:
            top.is_closed = content.is_flushed = False
        if top.is_closed:
            layer = self._layer(top, top.size)
            layer.mtime, layer.stamp = top.mtime, top.stamp
            content.layers.append(layer)
            content.is_flushed = False
            return layer
        return top

    def _layer(self, base: Base, base_size: int) -> Layer:
        random = self._replica.entropy(LAYER_ID_BYTES)
        return Layer(self._replica.disk, base64.urlsafe_b64encode(random).decode("ascii"), base, base_size)

    def save(self, content: Content, transaction: Transaction) -> None:
        """Put into the journal what a crash of the process would lose."""
        journal = self._replica.journal
        for layer in content.layers:
            if layer.is_dirty or not layer.sequence:
                increment = layer.next_increment()
                key = layer.layer_id.encode("ascii") + layer.sequence.to_bytes(SEQUENCE_BYTES, "big")
                journal.put_local("bytes", key, encode(increment))
                transaction.after(partial(layer.saved, increment))
        row = self._row(content)
        for layer, layer_row in zip(content.layers, row.layers, strict=True):
            layer_row.increments += layer.is_dirty or not layer.sequence
        journal.put_local("content", content_key(content.ref), encode(row))

        def saved() -> None:
            content.is_saved = True

        transaction.after(saved)

    def _row(self, content: Content) -> ContentRow:
        published = content.published
        return ContentRow(
            face=content.face,
            base_root=published.root,
            base_size=published.size,
            replaces=[(str(slot), n) for slot, n in published.replaces],
            rank=published.rank or 0,
            takes=content.taken,
            layers=[
                LayerRow(
                    layer=layer.layer_id,
                    mtime=layer.mtime,
                    stamp=layer.stamp,
                    is_filed=layer.is_filed,
                    is_closed=layer.is_closed or (layer is content.top and content.is_flushed),
                    is_appended=layer.is_appended,
                    durable_sequence=layer.durable_sequence,
                    increments=layer.sequence,
                )
                for layer in content.layers
            ],
        )

    def rest(self, ref: Ref) -> None:
        """Forget the saved content of a file that stays local, until somebody asks for it."""
        content = self._contents.pop(ref, None)
        if content is not None:
            for layer in content.layers:
                layer.release()
            self._resting.add(ref)

    def note_unreadable(self, ref: Ref, error: Damaged | FormatError) -> None:
        """Rows stay as they are, and whoever reads the file hears what is wrong."""
        self.unreadable[ref] = error

    def erase_unreadable(self, ref: Ref) -> None:
        """Within a transaction: forget a content row that cannot be loaded, with its increments."""
        journal = self._replica.journal
        key = content_key(ref)
        with suppress(Damaged, FormatError):
            value = journal.get_local("content", key)
            for layer in decode(ContentRow, value).layers if value is not None else ():
                layer_id = layer.layer.encode("ascii")
                bad: list[bytes] = []
                good = [row_key for row_key, _ in journal.scan_local("bytes", layer_id, bad)]
                for increment_key in good + [one for one in bad if one.startswith(layer_id)]:
                    journal.delete_local("bytes", increment_key)
        journal.delete_local("content", key)

    def note_resting(self, ref: Ref) -> None:
        """A row left by an earlier process belongs to a file that stays local."""
        self._resting.add(ref)

    def adopt(self, content: Content) -> None:
        """Take over a content that recovery loaded."""
        self._contents[content.ref] = content

    def detach(self, content: Content) -> None:
        """The file lost its last name while open: its bytes live on in memory only."""
        for layer in content.layers:
            layer.give_back_ahead()
        if self._contents.get(content.ref) is content:
            del self._contents[content.ref]

    def erase_rows(self, content: Content, layers: list[Layer]) -> None:
        """Within a transaction: the journal forgets `layers` of a content."""
        journal = self._replica.journal
        for layer in layers:
            for sequence in range(layer.sequence):
                key = layer.layer_id.encode("ascii") + sequence.to_bytes(SEQUENCE_BYTES, "big")
                journal.delete_local("bytes", key)
        if len(layers) == len(content.layers):
            journal.delete_local("content", content_key(content.ref))

    def move(
        self, content: Content, ref: Ref, transaction: Transaction, published: Published | None = None
    ) -> None:
        """Within a transaction: the content belongs to `ref` from now on (a save), over `published`."""
        old, begun = content.ref, content.published
        published = begun if published is None else published
        self._replica.journal.delete_local("content", content_key(old))
        content.ref, content.published = ref, published
        try:
            self.save(content, transaction)
        finally:
            content.ref, content.published = old, begun

        def rekey() -> None:
            if self._contents.get(old) is content:
                del self._contents[old]
            content.ref, content.published = ref, published
            self._contents[ref] = content

        transaction.after(rekey)

    def split(self, content: Content, count: int, ref: Ref, transaction: Transaction) -> Content:
        """Within a transaction: `content` keeps its lowest `count` layers; all it said is returned for `ref`.

        For recovery: memory changes at once, because nothing is served if the transaction fails.
        """
        above = content.layers[count:]
        whole = self.orphan(ref, content.published)
        whole.top.take_over(content.layers)
        self.erase_rows(content, above)
        del content.layers[count:]
        for one in (content, whole):
            one.top.is_closed = one.is_flushed = True
            self.save(one, transaction)
            self.adopt(one)
        self._doomed += above
        return whole

    def layer_on(self, published: Published) -> Layer:
        """A layer that says what `published` does, until something is written."""
        layer = self._layer(self.reader(published.root, published.size), published.size)
        layer.is_appended = False
        return layer

    def doom(self, layer: Layer) -> None:
        """In memory, after `erase_rows`: nobody reads a layer any more."""
        self._doomed.append(layer)

    def rebase(self, content: Content, published: Published, transaction: Transaction) -> None:
        """In a transaction: what was begun over an unborn file goes on over its first, empty version."""
        begun = content.published
        published = replace(published, root=begun.root, size=begun.size)  # of a copy: what it is based on
        content.published = published
        try:
            self.save(content, transaction)
        finally:
            content.published = begun

        def follow() -> None:
            content.published = published

        transaction.after(follow)

    def discard(self, content: Content) -> None:
        """In memory, after `erase_rows`: nobody reads these bytes any more."""
        self.detach(content)
        self._doomed += content.layers

    def take_doomed(self) -> list[Layer]:
        """Layers that no row names. Their files may go only once the journal that says so is durable:
        a power cut before that brings the rows back.
        """
        doomed, self._doomed = self._doomed, []
        return doomed

    def save_advanced(self, content: Content, published: Published) -> None:
        """Within the transaction that publishes the lowest layer: the row of what is left above it."""
        row = self._row(content)
        row.layers = row.layers[1:]
        row.face, row.takes = 0, None
        row.base_root, row.base_size = published.root, published.size
        row.replaces = [(str(slot), n) for slot, n in published.replaces]
        ref = content.ref
        key = content_key(ref)
        if ref[1] is not None:
            self._replica.journal.delete_local("content", key)
            key = content_key((ref[0], published.replaces[0]))
        self._replica.journal.put_local("content", key, encode(row))

    def advance(self, content: Content, published: Published, ref: Ref) -> None:
        """In memory, after the commit: the lowest layer is in the tree as `published`; drop it."""
        self._doomed.append(content.layers.pop(0))
        content.published = published
        content.face, content.taken = 0, None
        del self._contents[content.ref]
        content.ref = ref
        if content.layers:
            self._contents[ref] = content
            content.layers[0].base = self.reader(published.root, published.size)

    def load(self, ref: Ref) -> Content:
        """Read a content row and its layers back. Raises Damaged naming what is gone."""
        journal = self._replica.journal
        key = content_key(ref)
        value = journal.get_local("content", key)
        if value is None:
            raise Damaged(f"content of {key.decode()}", "its row is gone")
        row = decode(ContentRow, value)
        replaces = tuple((Slot(slot), n) for slot, n in row.replaces)
        rank = Stamp(row.rank) if row.rank else None
        content = Content(ref, Published(row.base_root, row.base_size, replaces, rank))
        content.face, content.taken = row.face, row.takes
        base: Base = self.reader(row.base_root, row.base_size)
        size = row.base_size
        for layer_row in row.layers:
            layer = self._load_layer(layer_row, base, size)
            content.layers.append(layer)
            base, size = layer, layer.size
        content.is_flushed = content.is_saved = True
        return content

    def _load_layer(self, row: LayerRow, base: Base, size: int) -> Layer:
        layer = Layer(self._replica.disk, row.layer, base, size)
        layer.mtime, layer.stamp = row.mtime, Stamp(row.stamp)
        if row.is_filed:
            try:
                layer.open_file()
            except FileNotFoundError:
                raise StagingGone(row) from None
        rows = list(self._replica.journal.scan_local("bytes", row.layer.encode("ascii")))
        numbers = [int.from_bytes(key[-SEQUENCE_BYTES:], "big") for key, _ in rows]
        if numbers != list(range(row.increments)):
            raise Damaged(f"layer {row.layer}", f"of {row.increments} increments there are {numbers}")
        for _, value in rows:
            layer.restore(decode(Increment, value))
        layer.is_closed = row.is_closed
        layer.is_appended = row.is_appended
        layer.durable_sequence = row.durable_sequence
        return layer
