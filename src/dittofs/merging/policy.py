"""What is to become of a conflict by itself: rules by pattern, in the volume, the same on all devices.

Each rule is a setting of its own, so that two devices may add rules apart. The last rule that matches counts,
as in `.gitignore`; what none matches is merged where that is clean. Pure.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from dittofs.errors import FormatError
from dittofs.volume.patterns import check, compiled

PolicyName = Literal["merge", "both", "newest", "mine"]
POLICIES: Final[tuple[PolicyName, ...]] = ("merge", "both", "newest", "mine")
PREFIX: Final = "conflict-policy/"
PATTERN_BYTES_MAX: Final = 1_000
RULES_MAX: Final = 200

NEVER_MERGED: Final = (".git/", ".hg/", ".svn/", ".bzr/", ".jj/", "_darcs/", "CVS/", ".fslckout", ".pijul/")
"""What programs keep consistent among several files. No rule changes that."""
BUILT_IN: Final = (
    # Text in which two sound lines may make an unsound whole, or a seal that fits no more.
    *("*.json", "*.jsonl", "*.geojson", "*.ipynb", "*.xml", "*.svg", "*.plist", "*.fodt", "*.fods", "*.fodp"),
    *("*.drawio", "*.kml", "*.gpx", "*.rdf", "*.xhtml", "*.rtf", "*.ps", "*.eps", "*.pdf"),
    *("*.ics", "*.vcf", "*.eml", "*.mbox", "*.patch", "*.diff"),
    *("*.pem", "*.key", "*.crt", "*.asc", "*.sig", "*.gpg", "*.age"),
    *("*.lock", "*-lock.yaml", "*.sum", "*.min.js", "*.min.css", "*.map"),
)
"""Kept both, unless a rule says otherwise."""


class Rule(msgspec.Struct, array_like=True, frozen=True):
    """One rule, as its setting has it."""

    order: int
    pattern: str
    policy: str
    device: str = ""
    """Of `mine`: whose version counts, as `Writers.called` knows that device."""


_decoder = msgspec.msgpack.Decoder(Rule)


def setting_name(pattern: str) -> str:
    """The setting that holds the rule about a pattern."""
    digest = hashlib.blake2b(pattern.encode("utf-8", "surrogatepass"), digest_size=10).digest()
    return PREFIX + base64.b32encode(digest).decode("ascii").lower()


def encode_rule(rule: Rule) -> bytes:
    return msgspec.msgpack.encode(rule)


def rules_in(settings: Mapping[str, bytes]) -> list[Rule]:
    """The rules of a volume, in their order. One of unknown form, of a later version, does not count."""
    found = []
    for name, value in settings.items():
        if name.startswith(PREFIX):
            try:
                rule = _decoder.decode(value)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if rule.policy in POLICIES and is_pattern(rule.pattern):
                found.append(rule)
    return sorted(found, key=lambda rule: (rule.order, rule.pattern))


def is_pattern(pattern: str) -> bool:
    """Whether a rule can be about this pattern: gitignore syntax, without `!` and comments."""
    if not pattern.strip() or pattern[0] in "!#" or not pattern.isprintable():
        return False
    if len(pattern.encode("utf-8", "surrogatepass")) > PATTERN_BYTES_MAX:
        return False
    try:
        check(pattern)
    except ValueError:
        return False
    return True


def require_pattern(pattern: str) -> None:
    """FormatError unless `is_pattern`."""
    if not is_pattern(pattern):
        raise FormatError(f"{pattern!r} is no pattern: write one as in .gitignore, like *.txt or notes/")


class Policies:
    """The rules of a volume at one time."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self._never = compiled(NEVER_MERGED)
        built_in = [Rule(0, pattern, "both") for pattern in BUILT_IN]
        self._rules = [(compiled([rule.pattern]), rule) for rule in (*built_in, *rules)]

    def of(self, path: bytes) -> Rule | None:
        """The rule for a file; None: nothing is said about it, so it is merged where that is clean."""
        text = path.decode("utf-8", "surrogateescape")
        if self._never.match_file(text):
            return Rule(0, text, "both")
        matching = (rule for spec, rule in reversed(self._rules) if spec.match_file(text))
        return next(matching, None)

    def is_never_merged(self, path: bytes) -> bool:
        """Whether the file belongs to a program that keeps several files consistent."""
        return self._never.match_file(path.decode("utf-8", "surrogateescape"))
