"""Common part of all devices: the support set, requests, checks of packages, and rolling back.

Readers never wait. Every call takes one reference to an immutable snapshot and uses it until the call ends,
so that no answer needs a lock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from paramcast.device.errors import DeviceInputError
from paramcast.device.inputs import Parameters
from paramcast.device.parameters import ParameterKeeper, WhenExpired
from paramcast.device.snapshot import Snapshot
from paramcast.device.store import PackageStore
from paramcast.device.support import Seen, SupportMemory, request_of
from paramcast.device.trust import TrustedKeys
from paramcast.protocol import AdaptRequest, Delegation, Endorsement, Package
from paramcast.protocol.limits import DEVICE_ID
from paramcast.protocol.signing import is_public_key


class DeviceCore(ABC):
    """One device with one model. Several threads may call every method at once.

    Attributes:
        model: sha256 of the base model that the packages are made for.
        device_id: Id that the packages are made for.
        root: Hex of the root's key, which decides which of the cloud's keys is trusted; None for no root.
    """

    def __init__(
        self,
        *,
        model: str,
        device_id: str,
        base: Parameters,
        feed: Parameters,
        store: Path | str | None,
        keys: tuple[str, ...],
        root: str | None = None,
        when_expired: WhenExpired = "keep",
    ) -> None:
        """Start from the state in `store`.

        Args:
            model: sha256 of the base model.
            device_id: A letter or digit, then up to 127 of letters, digits and `._:@+-`.
            base: Tensors of a package, with values that leave the base model unchanged.
            feed: Inputs of the model's graphs that correspond to `base`.
            store: Folder for packages and the pinned key, or None.
            keys: Hex of the cloud's keys, if they are known, the newest first.
            root: Hex of the root's key; only keys that the root delegates are then trusted.
            when_expired: Parameters to run after the running package or the newest notice has expired; see
                `WhenExpired`.

        Raises:
            DeviceInputError: `when_expired` is neither "keep" nor "base".
        """
        if when_expired not in get_args(WhenExpired):
            raise DeviceInputError(f"when_expired must be one of {', '.join(get_args(WhenExpired))}")
        self.root = root
        self._when_expired = when_expired
        self.model, self.device_id = model, device_id
        self._store = store
        self._support = SupportMemory()
        slot = None if store is None else PackageStore(store, device=device_id, model=model)
        nothing = Snapshot(base, feed, "base", 0, None, "")
        trusted = TrustedKeys(keys, root)
        self._parameters = ParameterKeeper(
            model, nothing, device_id, slot, trusted, self._try_out, when_expired
        )
        self._parameters.start()

    @abstractmethod
    def _try_out(self, parameters: Parameters, effect: bytes | None = None) -> Parameters:
        """Run the model once with a package's tensors and return the inputs of its graphs for them.

        Args:
            parameters: Tensors of the package.
            effect: Effect of the tensors on the probe, as signed by the cloud; None if the package has none.

        Raises:
            PackageError: The model does not work with the tensors.
        """

    @abstractmethod
    def _baked(self, feed: Parameters) -> Any:
        """Return the model's graphs with constants in place of the inputs `feed`."""

    def forget_user(self, user: str) -> None:
        """Erase a user of this device from the store: the user's updates, keys and newest notice.

        First drop the object that `for_user` returned for this user. `paramcast access forget` erases the
        user's data on the server.

        Args:
            user: Name as given to `for_user`; nothing happens for an unknown user.

        Raises:
            DeviceInputError: The user's name is malformed, or the store cannot be written.
        """
        device_id = self._user_id(user)
        if self._store is None:
            return
        try:
            PackageStore(self._store, device=device_id, model=self.model).forget()
        except OSError as error:
            raise DeviceInputError(f"user {user} cannot be erased from {self._store}: {error}") from error

    @property
    def public_key(self) -> str | None:
        """Hex of the cloud's key that packages are checked with; None if no key is known yet."""
        return self._parameters.public_key

    @property
    def observed(self) -> int:
        """Number of examples observed since the start."""
        return self._support.observed

    def recent(self) -> tuple[Seen, ...]:
        """Return the examples of the support set, at most 64, oldest first."""
        return self._support.all()

    def request(self, seen: Sequence[Seen] | None = None) -> AdaptRequest:
        """Build the request to the cloud. Nothing else about the examples leaves the device.

        Args:
            seen: Some of the examples of `recent()`; None for all of them.

        Raises:
            DeviceInputError: No example has been observed yet.
        """
        given = self.recent() if seen is None else seen
        return request_of(given, self.device_id, self.model, self._parameters.highest)

    def apply(self, data: bytes) -> Package:
        """Check a sealed package, try it, keep it in the store, and use it for answers from now on.

        Raises:
            PackageError: The package may not be run. The device keeps its present parameters, and
                `status()["refused"]` says why.
        """
        return self._parameters.apply(data)

    def roll_back(self, to: int | None = None) -> None:
        """Run an earlier package again, or the base model.

        Packages that arrive later are still taken up. The change survives a restart. Sequence numbers stay
        used: an old package cannot be sent again.

        Args:
            to: Sequence number of the package, one of `status()["packages"]`; 0 for the base model; None for
                the package before the running one.

        Raises:
            DeviceInputError: The store holds no such package, or there is no store.
            PackageError: The package may not be run; the device keeps its present parameters.
        """
        self._parameters.roll_back(to)

    def bake(self) -> bool:
        """Make the running parameters constants of the model. Call it while the device is idle.

        The answers stay the same and may come faster, until the next package is taken up. Baking takes as
        long as opening the graphs and needs their memory a second time; the device answers meanwhile.

        Returns:
            True if the parameters are constants now; False if other parameters were taken up meanwhile.
        """
        return self._parameters.bake(self._baked)

    def trust(self, public_key: str) -> None:
        """Pin the key of the first cloud that the device reaches (trust on first use), also in the store.

        An attacker who controls the first connection can impersonate the cloud. Where that matters, export
        with a key or give a key to the device.

        Raises:
            CloudError: The key is malformed, or the device already trusts another key.
        """
        self._parameters.trust(public_key)

    def follow(self, endorsements: Sequence[Endorsement], delegation: Delegation | None = None) -> bool:
        """Trust the key that the root delegates, or, without a root, the last of the chain of endorsements.

        If the new key is outside the chain, packages and notices that former keys have signed are dropped.

        Args:
            endorsements: Endorsements of the cloud's keys.
            delegation: The root's delegation as the cloud sends it.

        Returns:
            Whether the trusted key or its generation has changed.

        Raises:
            BadSignature: The delegation is not signed by the root, or an endorsement is not signed by the
                preceding key.
        """
        return self._parameters.follow(endorsements, delegation)

    def heed(self, data: bytes) -> bool:
        """Take a notice of the cloud: drop the recalled packages, and run the newest allowed one.

        Args:
            data: The notice as `/v1/notice/MODEL` gives it.

        Returns:
            Whether another package, or the base model, runs because of the notice.

        Raises:
            PackageError: The notice is not valid, or is older than one that was taken.
        """
        return self._parameters.heed(data)

    def status(self) -> dict[str, Any]:
        """Describe what the device runs and why it runs nothing newer, as JSON types.

        - `source`: `base`, `cloud` or `store`.
        - `sequence`, `expires`: Number of the running package, and its end in unix seconds.
        - `version`: Version of the model that made the package.
        - `why`: Sentence that says why this package runs.
        - `baked`: Whether its parameters are constants of the model now.
        - `expired`: Whether the running package is too old to be taken up now. It still runs, because the
          device may be offline for a long time.
        - `packages`: Packages that `roll_back` can go to.
        - `public_key`, `generation`: The cloud's key, and its generation; None without a root.
        - `notice`: Newest notice of the recalled packages, with `age_s`, `expired`, `to_base` and `withdrawn`
          versions; None if no notice has come yet.
        - `refused`: Last refusal since a success.
        - `store_error`: Reason why the last change could not be kept in the store.
        """
        return {
            "device": self.device_id,
            "model": self.model,
            "support": len(self._support),
            **self._parameters.status(),
        }

    def _user_id(self, user: str) -> str:
        """Return the id of a user of this device.

        Raises:
            DeviceInputError: The user's name is malformed, or is too long together with the device's id.
        """
        if not user:
            raise DeviceInputError("a user's name may not be empty")
        return check_device_id(f"{self.device_id}:{user}")


def check_device_id(device_id: str) -> str:
    """Check a device id and return it. Raises DeviceInputError if it is malformed."""
    if not isinstance(device_id, str) or not DEVICE_ID.fullmatch(device_id):
        raise DeviceInputError(
            "a device id begins with a letter or digit and has at most 128 letters, digits and ._:@+-"
        )
    return device_id


def check_public_key(public_key: str | None) -> str | None:
    """Check a public key in hex and return it. Raises DeviceInputError if it is malformed."""
    if public_key is not None and not is_public_key(public_key):
        raise DeviceInputError("a public key is 64 lower-case hex digits")
    return public_key
