"""Descriptions: the orgs, limits and agents of a registry file, read whole or refused."""

import tomllib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.domain.agent import read_agent
from gateway.domain.key import is_id
from gateway.domain.limits import check_field
from gateway.errors import BadRequest

_ORG_MEMBERS = ("timezone", "limits", "agents")
_ID = "1 to 48 letters, digits, _ or -"


class DescribedOrg(NamedTuple):
    """An org as a file describes it; what the file leaves out is not in it."""

    org: str
    limits: dict[str, str]
    agents: dict[str, Mapping[str, object]]


class _Reading:
    """Walks a file, and collects what is wrong with it under the place where it stands."""

    def __init__(self, windows: Sequence[str]) -> None:
        self._windows = windows
        self.problems: list[str] = []

    def orgs(self, document: Mapping[str, object]) -> list[DescribedOrg]:
        self._refuse_unknown(document, ("orgs",), "")
        return [
            self._org(org, members, f"orgs.{org}")
            for org, members in self._table(document, "orgs", "").items()
        ]

    def _org(self, org: str, value: object, place: str) -> DescribedOrg:
        if not is_id(org):
            self._say(place, f"is no id of an org; expected {_ID}.")
        if not isinstance(value, Mapping):
            self._say(place, f"is {value!r}; expected a table.")
            return DescribedOrg(org, {}, {})
        self._refuse_unknown(value, _ORG_MEMBERS, f"{place}.")
        fields = self._table(value, "limits", f"{place}.")
        limits = self._limits(fields, f"{place}.limits.")
        if "timezone" in value and "timezone" in fields:
            self._say(f"{place}.limits.timezone", f"is {place}.timezone too; expected one of them.")
        elif "timezone" in value:
            limits |= self._limits({"timezone": value["timezone"]}, f"{place}.")
        agents = self._table(value, "agents", f"{place}.")
        return DescribedOrg(org, limits, self._agents(agents, f"{place}.agents."))

    def _limits(self, fields: Mapping[str, object], prefix: str) -> dict[str, str]:
        limits = {}
        for field, value in fields.items():
            text = str(value) if isinstance(value, int) else value
            if isinstance(value, Mapping):
                self._say(prefix + field, 'is a table; expected a quoted "org.month.limit_cents".')
            elif not isinstance(text, str):
                self._say(prefix + field, f"is {value!r}; expected a text or a whole number.")
            elif not text:
                self._say(prefix + field, "is empty; a field is removed with limits unset only.")
            elif (problem := check_field(field, text, self._windows)) is not None:
                self.problems.append(prefix + problem)
            else:
                limits[field] = text
        return limits

    def _agents(self, agents: Mapping[str, object], prefix: str) -> dict[str, Mapping[str, object]]:
        read = {}
        for agent, description in agents.items():
            place = prefix + agent
            if not is_id(agent):
                self._say(place, f"is no id of an agent; expected {_ID}.")
            elif not isinstance(description, Mapping):
                self._say(place, f"is {description!r}; expected a table.")
            else:
                try:
                    read_agent(description)
                    read[agent] = description
                except ValueError as error:
                    self.problems.append(f"{place}.{error}")
        return read

    def _table(self, members: Mapping[str, object], name: str, prefix: str) -> Mapping[str, object]:
        value = members.get(name, {})
        if isinstance(value, Mapping):
            return value
        self._say(prefix + name, f"is {value!r}; expected a table.")
        return {}

    def _refuse_unknown(
        self, members: Mapping[str, object], known: tuple[str, ...], prefix: str
    ) -> None:
        for name in members:
            if name not in known:
                self._say(prefix + name, f"is not known; expected one of {', '.join(known)}.")

    def _say(self, place: str, what: str) -> None:
        self.problems.append(f"{place} {what}")


def read_description(text: str, windows: Sequence[str]) -> list[DescribedOrg]:
    """Return the orgs that a TOML file describes; ``windows`` are those that are counted.

    Raises:
        BadRequest: it is no TOML, or something in it is wrong; every problem is on a line of its
            own that begins with its place, such as ``orgs.acme.agents.researcher.price.cents``.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadRequest(f"The file is no TOML: {error}.") from error
    reading = _Reading(windows)
    orgs = reading.orgs(document)
    if reading.problems:
        raise BadRequest("\n".join(reading.problems))
    return orgs
