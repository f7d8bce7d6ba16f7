"""How fast this device sends and receives: `dittofs limit`."""

from dataclasses import replace

from dittofs.control.faults import Refusal
from dittofs.control.limiting import LimitReport, LimitRequest, LimitRule
from dittofs.errors import Ambiguous, ConfigError, FormatError
from dittofs.node import Node
from dittofs.rate_limits import Direction, RateLimit, in_force, parse_rate, with_rule
from dittofs.timetable import Timetable, local_minute

UNCHANGED = "nothing was changed"


class LimitDesk:
    """Of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def limit(self, request: LimitRequest) -> LimitReport:
        """See `Service.limit`."""
        limits = self._node.limits
        if request.action == "clear":
            await limits.choose((), self._node.run_blocking)
        elif request.action == "set":
            try:
                at = Timetable.parse(request.at) if request.at else None
                rule = RateLimit(Direction(request.direction), parse_rate(request.rate), at=at)
                if request.device:
                    rule = replace(rule, device=self._device(request.device))
                rules = with_rule(limits.rules, rule)
            except FormatError as error:
                raise Refusal("usage", f"{error}; {UNCHANGED}", "dittofs limit --help") from error
            await limits.choose(rules, self._node.run_blocking)
        return self.report()

    def report(self) -> LimitReport:
        """What holds now."""
        limits = self._node.limits
        counting = in_force(limits.rules, *local_minute(self._node.clock.now_ns()))
        return LimitReport(
            rules=tuple(
                LimitRule(
                    direction=rule.direction.value,
                    rate=rule.rate or 0,
                    device=self._name(rule.device),
                    id=rule.device or "",
                    at="" if rule.at is None else str(rule.at),
                    counts_now=counting.get(rule.about) is rule,
                )
                for rule in limits.rules
            ),
            up=limits.allowances.rate(Direction.UP),
            down=limits.allowances.rate(Direction.DOWN),
            problems=limits.problems,
            file=str(limits.path),
        )

    def _device(self, text: str) -> str:
        """The id of the one device that is meant, of any volume. Refusal if there is none, or several."""
        own, found, known = self._node.device_id.hex(), set(), set()
        for name in self._node.names():
            opened = self._node.opened(name)
            if opened is None:
                continue
            known |= {one.name for one in opened.membership.members() if one.device.hex() != own}
            try:
                found.add(opened.find_member(text).device.hex())
            except Ambiguous as error:
                raise Refusal("usage", f"{error}; {UNCHANGED}", "dittofs devices -v") from error
            except ConfigError:
                pass
        if found == {own}:
            text = f'"{text}" is this very device; {UNCHANGED}'
            raise Refusal("usage", text, "Without --device it is about all others together")
        if len(found) > 1:
            text = f'devices of several volumes are called "{text}"; {UNCHANGED}'
            raise Refusal("usage", text, "Give the id that is shown by  dittofs devices -v")
        if not found:
            names = ", ".join(sorted(known)) or "none yet"
            text = f'no other device is called "{text}"; there are: {names}; {UNCHANGED}'
            raise Refusal("not_found", text, "dittofs devices -v")
        return found.pop()

    def _name(self, device: str | None) -> str:
        """What a device is called in the first volume that has it; empty: it is in none."""
        if device is None:
            return ""
        for name in self._node.names():
            opened = self._node.opened(name)
            for member in opened.membership.members() if opened is not None else ():
                if member.device.hex() == device:
                    return member.name
        return ""
