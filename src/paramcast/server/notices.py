"""Signed notices of recalls, one for each base model: made from the state and signed anew when old."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from paramcast.errors import InputError
from paramcast.protocol import BadSignature, Delegation, Notice, SigningKey, public_key_hex, seal_notice
from paramcast.server.db import Database
from paramcast.server.db.recalls import Recall, known_models, put_right, recall_of

FRESH_S = 60
"""Seconds after which a notice is signed anew, so that devices can tell the age of their notice."""

_log = logging.getLogger(__name__)


class RecalledError(InputError):
    """Devices must run this base model without updates until `paramcast model recall --resume`.

    Attributes:
        model: sha256 of the base model.
    """

    code = "recalled"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"devices of base model {model[:12]} must run their base model; no updates are made now"
        )
        self.model = model


def check_delegation(delegation: Delegation, key: SigningKey, now: float) -> None:
    """Check that the root delegates `key` at `now` (unix seconds). Raises InputError."""
    try:
        delegation.check(delegation.root)
    except BadSignature as error:
        raise InputError(f"the delegation is damaged: {error}") from error
    if delegation.key != public_key_hex(key):
        raise InputError(
            f"the delegation is for key {delegation.key[:12]}..., this service signs with "
            f"{public_key_hex(key)[:12]}...; run: paramcast root delegate --public-key {public_key_hex(key)}"
        )
    if now >= delegation.not_after:
        raise InputError(
            f"the delegation ended at {delegation.not_after} (unix seconds); run: paramcast root delegate"
        )


class Notices:
    """Signs the notices of all base models. Safe to call from several threads."""

    def __init__(
        self,
        database: Database,
        key: SigningKey,
        *,
        lifetime_s: int,
        generation: int = 0,
        skew_s: float = 300.0,
        clock: Callable[[], float],
    ) -> None:
        """Sign with `key` of `generation`; a notice is valid for `lifetime_s` seconds by `clock`.

        If the time of a recall is later than `clock` by more than `skew_s`, it comes from a wrong clock.
        """
        self._database, self._key, self._clock = database, key, clock
        self._lifetime_s, self._generation, self._skew_s = lifetime_s, generation, skew_s
        self._recalls: dict[str, Recall] = {}
        self._signed: dict[str, tuple[Notice, bytes]] = {}

    def refresh(self, served: Iterable[str]) -> None:
        """Read the recalls from the state.

        Args:
            served: sha256 of the base models in service, which the state may not know.

        Raises:
            StateError: If the state cannot be used.
        """
        now_ms = int(1000 * self._clock())
        with self._database.reading() as connection:
            found = [recall_of(connection, model) for model in {*known_models(connection), *served}]
        for place, recall in enumerate(found):
            if recall.since > now_ms + 1000 * self._skew_s:
                _log.warning(
                    "notices: base model %s was called back at a time that is ahead of the clock; "
                    "all updates that were issued until now are called back",
                    recall.model,
                )
                with self._database.writing() as connection:
                    found[place] = put_right(connection, recall, now_ms)
        self._recalls = {recall.model: recall for recall in found}

    def to_base(self, model: str) -> bool:
        """Check whether devices must run a base model without updates, so that none are made for them."""
        recall = self._recalls.get(model)
        return recall is not None and recall.to_base

    def since_s(self, model: str) -> int:
        """Return the lowest issue time in unix seconds; an update with an earlier time would be recalled."""
        recall = self._recalls.get(model)
        return 0 if recall is None else _since_s(recall)

    def of(self, model: str) -> bytes | None:
        """Return the notice for a base model, at most `FRESH_S` old; None if the model is not known here."""
        recall = self._recalls.get(model)
        if recall is None:
            return None
        now = int(self._clock())
        notice, data = self._signed.get(model, (None, b""))
        if notice is None or not 0 <= now - notice.time < FRESH_S or not _says(notice, recall):
            notice = Notice(
                model=model,
                number=recall.number,
                time=now,
                until=now + self._lifetime_s,
                withdrawn=recall.withdrawn,
                since=_since_s(recall),
                to_base=recall.to_base,
                generation=self._generation,
            )
            data = seal_notice(notice, self._key)
            self._signed[model] = notice, data
        return data


def _says(notice: Notice, recall: Recall) -> bool:
    told = (notice.number, notice.withdrawn, notice.since, notice.to_base)
    return told == (recall.number, recall.withdrawn, _since_s(recall), recall.to_base)


def _since_s(recall: Recall) -> int:
    """Convert the recall's time to unix seconds, rounded up: updates of the same second are recalled too."""
    return -(-recall.since // 1000)
