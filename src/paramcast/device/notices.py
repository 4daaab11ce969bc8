"""The newest notice that a device has taken: what it calls back, and how old it is."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from paramcast.device.trust import TrustedKeys
from paramcast.protocol import Notice, Package, PackageError, StaleNotice, Withdrawn, open_notice


class NoticeBoard:
    """Holds one notice, for one base model.

    Attributes:
        notice: The newest that was taken, if any was.
    """

    def __init__(self, model: str, trusted: TrustedKeys) -> None:
        """Hold notices for base model `model` (sha256) that the trusted keys sign."""
        self._model, self._trusted = model, trusted
        self.notice: Notice | None = None
        self._key: str | None = None

    def go_on(self, data: bytes | None) -> None:
        """Go on with a notice from the store, if a key of the chain has signed it."""
        for key in self._trusted.keys if data is not None else ():
            with suppress(PackageError):
                self.notice, self._key = open_notice(data or b"", key, model=self._model), key
                return

    def take(self, data: bytes, now: float) -> bool:
        """Take a notice if it is the newest; whether it may call back what the one before did not.

        Args:
            data: As it arrived.
            now: Unix seconds, by the device's clock.

        Raises:
            PackageError: It may not be believed, or is older than the one before.
        """
        key = self._trusted.checked(now)
        notice = open_notice(data, key, model=self._model, generation=self._trusted.generation)
        known = self.notice
        if known is not None and self._key == key and not notice.replaces(known, now):
            raise StaleNotice(f"the device has taken notice {known.number} of {known.time}, which is newer")
        is_news = known is None or self._key != key or notice.says_more(known)
        self.notice, self._key = notice, key
        return is_news

    def forget(self) -> None:
        """Forget the notice, which a key outside of the chain has signed."""
        self.notice = self._key = None

    def refusal(self, version: int | None, issued: int | None) -> str | None:
        """Why an update of this version and issue time may not be run; None: it may."""
        return None if self.notice is None else self.notice.refusal(version, issued)

    def check(self, package: Package, *, to_run: bool) -> None:
        """Return if a package is not called back.

        Args:
            package: That arrives, or lies in the store.
            to_run: Whether it is to be run now, which it may not while devices run their base model.

        Raises:
            Withdrawn: It is.
        """
        why = self.refusal(package.version, package.issued)
        if why is None and to_run and self.notice is not None and self.notice.to_base:
            why = TO_BASE
        if why is not None:
            raise Withdrawn(f"package {package.sequence} may not be run: {why}")

    def status(self, now: float) -> dict[str, Any] | None:
        """How old the notice is at `now` (unix seconds) and what it says; None: there is none."""
        if self.notice is None:
            return None
        return {
            "age_s": max(0.0, now - self.notice.time),
            "expired": now >= self.notice.until,
            "to_base": self.notice.to_base,
            "withdrawn": list(self.notice.withdrawn),
        }


TO_BASE = "the server has devices run the base model"
