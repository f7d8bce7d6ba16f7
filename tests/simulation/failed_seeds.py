"""Every seed that failed once, and what it showed. The default suite runs them again.

A seed means what it means to the scripts as they are; where these change, the bugs have tests of their own.
"""

from typing import Final

STACK: Final = {
    100005: "a device cannot change a setting while its disk is full",
    100012: "files are closed on a volume that is read-only",
    100033: "a process that cannot end cleanly, because its disk fails",
    100036: "a full disk met by one of several tasks of replication was told as a bug",
    100079: "a volume that stays read-only after its journal could not be synced",
    200033: "what was closed before the disk was full was never synced, and a power cut took it",
    200102: "a device that leaves for good while its users still write",
    300108: "a backup taken while the disk was full is put back, and its disk is full for good",
    300133: "replication that met a full disk while it was ended took the whole process along",
    400002: "who edits what only a device had that left for good, waits for ever",
    500035: "a truncation that fails on a disk with errors has taken effect",
    4100069: "what was fsynced while its publication failed was published twice at once",
    4100195: "an owner whose journal could not be synced took a member out only once restarted",
    500073: "writes in place that nobody synced are a mixture after a power cut, as POSIX allows",
    915001: "the first words of a process that had died came after its successor's: taken for a twin",
    900014: "an owner cannot say how many copies there are to be while the disk fails",
}
MANY: Final = {
    800235: "what a peer learnt while it gave a round was seen in part, and told on in part",
    800268: "the same",
}
"""Of whole devices, too, 16 each: a run takes 20 s, so they are soak tests."""
BRAKED: Final = {
    1181: "a conflict entry became a file, was shown again, and both showed one number",
    3146: "the same",
    30243: "what stood beside a refused file came back under the name of the file",
}
"""Of `tests.property.test_brake`."""
TREE: Final = {
    20005676: "the last name of a file took a version along that another file has, and numbers moved up",
    40001894: "of two copies that write as one, one replaces what the other saved under another name",
    40006183: "a conflict entry has its name back once the file that a user gave that name is removed",
    40010516: "two copies had made equally many changes to the end, after another device had joined",
    40016138: "two conflict entries of one file have one name in two directories",
    20007657: "the check looked in a directory that was there for what was moved out of it only",
}
