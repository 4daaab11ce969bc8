"""Newest notice that a device has taken: the packages that it recalls, and its age."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from paramcast.device.trust import TrustedKeys
from paramcast.protocol import Notice, Package, PackageError, StaleNotice, Withdrawn, open_notice


class NoticeBoard:
    """Holder of the newest notice for one base model.

    Attributes:
        notice: The newest notice that was taken; None if there was none.
    """

    def __init__(self, model: str, trusted: TrustedKeys) -> None:
        """Prepare to take notices for base model `model` (sha256) that the trusted keys sign."""
        self._model, self._trusted = model, trusted
        self.notice: Notice | None = None
        self._key: str | None = None

    def go_on(self, data: bytes | None) -> None:
        """Take the notice from the store, if a trusted key has signed it."""
        for key in self._trusted.keys if data is not None else ():
            with suppress(PackageError):
                self.notice, self._key = open_notice(data or b"", key, model=self._model), key
                return

    def take(self, data: bytes, now: float) -> bool:
        """Take a notice if it is the newest.

        Args:
            data: The notice as it arrived.
            now: Unix seconds, by the device's clock.

        Returns:
            Whether it may recall packages that the previous notice did not recall.

        Raises:
            PackageError: The notice is not valid, or is older than the previous one.
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
        """Forget the notice, because its key is outside the chain of the newest key."""
        self.notice = self._key = None

    def refusal(self, version: int | None, issued: int | None) -> str | None:
        """Return why an update of this version and issue time may not be run; None if it may be run."""
        return None if self.notice is None else self.notice.refusal(version, issued)

    def check(self, package: Package, *, to_run: bool) -> None:
        """Check that a package is not recalled.

        Args:
            package: A package that arrives, or lies in the store.
            to_run: Whether the package is to run now. No package may run while devices are to run their base
                model.

        Raises:
            Withdrawn: The package is recalled, or may not run now.
        """
        why = self.refusal(package.version, package.issued)
        if why is None and to_run and self.notice is not None and self.notice.to_base:
            why = TO_BASE
        if why is not None:
            raise Withdrawn(f"package {package.sequence} may not be run: {why}")

    def status(self, now: float) -> dict[str, Any] | None:
        """Describe the notice and its age at `now` (unix seconds); None if there is no notice."""
        if self.notice is None:
            return None
        return {
            "age_s": max(0.0, now - self.notice.time),
            "expired": now >= self.notice.until,
            "to_base": self.notice.to_base,
            "withdrawn": list(self.notice.withdrawn),
        }


TO_BASE = "the server has devices run the base model"
