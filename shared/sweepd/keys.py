"""Every key in Redis: its type, its lifetime and who writes it.

All keys of one installation carry one hash tag, so that the script that commits may touch
them together (also in a cluster-aware client). Nobody else splices key names.

| method      | type   | written by            | lifetime                                     |
|-------------|--------|-----------------------|----------------------------------------------|
| leader      | string | the leading coordinator | expires unless renewed                     |
| fence       | hash   | commit.lua            | for ever: epoch, token, commit_no, cursor    |
| inbox       | stream | agents and clients    | trimmed by the commit that read the entries  |
| outbox      | stream | commit.lua            | trimmed once its agent has seen the entries  |
| agents      | hash   | commit.lua            | a field per agent, until it is forgotten     |
| studies     | hash   | commit.lua            | a field per study, until it is deleted       |
| specs       | hash   | commit.lua            | as studies                                   |
| trials      | hash   | commit.lua            | a field per trial, until its study is deleted |
| points      | list   | commit.lua            | until the trial ends                         |
| curves      | hash   | commit.lua            | a field per ended trial, as trials           |
| reply       | string | commit.lua            | 24 h                                         |
| feed        | stream | commit.lua            | capped at about 100,000 entries              |
| ends        | stream | commit.lua            | for ever: accepted ends, append only         |
"""

from __future__ import annotations

from dataclasses import dataclass

REPLY_TTL_S = 24 * 3600
FEED_LENGTH = 100_000


@dataclass(frozen=True)
class Keys:
    """The keys of one installation; *namespace* is its hash tag."""

    namespace: str = "sweepd"

    def _key(self, *parts: object) -> str:
        return ":".join((f"{{{self.namespace}}}", *map(str, parts)))

    @property
    def leader(self) -> str:
        return self._key("leader")

    @property
    def fence(self) -> str:
        return self._key("fence")

    @property
    def inbox(self) -> str:
        return self._key("inbox")

    @property
    def feed(self) -> str:
        return self._key("feed")

    @property
    def ends(self) -> str:
        return self._key("ends")

    @property
    def agents(self) -> str:
        return self._key("agents")

    @property
    def studies(self) -> str:
        return self._key("studies")

    @property
    def specs(self) -> str:
        return self._key("specs")

    def outbox(self, agent: str) -> str:
        return self._key("outbox", agent)

    def trials(self, study: str) -> str:
        return self._key("trials", study)

    def points(self, study: str, trial: int) -> str:
        return self._key("points", study, trial)

    def curves(self, study: str) -> str:
        return self._key("curves", study)

    def reply(self, request_id: str) -> str:
        return self._key("reply", request_id)
