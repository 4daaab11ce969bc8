"""What every device does, whatever its model: remembers examples, asks, checks packages, and can go back.

Readers never wait: every call takes one reference to an immutable snapshot and works with it to its end;
there is no lock on the way to an answer.
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
    """One device with one model. Every method may be called by several threads at once.

    Attributes:
        model: sha256 of the base model that packages are for.
        device_id: The id that they are for.
        root: Hex of the root's key, which says which of the cloud's keys to trust; None: there is none.
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
        """Go on with what `store` holds.

        Args:
            model: sha256 of the base model.
            device_id: A letter or digit, then up to 127 of letters, digits and `._:@+-`.
            base: Tensors of a package, with values that leave the base model as it is.
            feed: What the model's graphs are fed for these.
            store: A folder for packages and the pinned key, or None.
            keys: Hex of the cloud's keys, if they are known, the newest first.
            root: Hex of the root's key: only keys that it delegates are trusted then.
            when_expired: What runs when the time of the running package, or of the newest notice, is over.

        Raises:
            DeviceInputError: If `when_expired` is another word.
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
        """Run the model once with a package's tensors; return what to feed its graphs for them.

        Args:
            parameters: The tensors.
            effect: What they do to the exported example, as the cloud has signed it; None: it does not say.

        Raises:
            PackageError: The model does not work with them.
        """

    @abstractmethod
    def _baked(self, feed: Parameters) -> Any:
        """Return the model's graphs with constants in the place of what they are fed."""

    def forget_user(self, user: str) -> None:
        """Erase what the store keeps of a user of this device: updates, keys, and its newest notice.

        Drop what `for_user` gave for that user first. `paramcast access forget` erases what the server knows.

        Args:
            user: As given to `for_user`; a user who was never here is none to erase.

        Raises:
            DeviceInputError: If the user's name is malformed, or the store cannot be written.
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
        """Hex of the cloud key that packages are checked with, or None if none is known yet."""
        return self._parameters.public_key

    @property
    def observed(self) -> int:
        """How many examples have been observed since the start."""
        return self._support.observed

    def recent(self) -> tuple[Seen, ...]:
        """The examples of the support set, at most 64, oldest first."""
        return self._support.all()

    def request(self, seen: Sequence[Seen] | None = None) -> AdaptRequest:
        """What to send to the cloud: all that leaves the device.

        Args:
            seen: Some of `recent()`; None: all of them.

        Raises:
            DeviceInputError: If no example has been observed yet.
        """
        given = self.recent() if seen is None else seen
        return request_of(given, self.device_id, self.model, self._parameters.highest)

    def apply(self, data: bytes) -> Package:
        """Check a sealed package, try it, keep it in the store, and answer with it from now on.

        Raises:
            PackageError: If the package may not be run; the device keeps the parameters that it has, and
                `status()["refused"]` says why.
        """
        return self._parameters.apply(data)

    def roll_back(self, to: int | None = None) -> None:
        """Run an earlier package again, or the base model; later packages are taken up as ever.

        It is remembered over a restart. Sequence numbers stay used up: no old package can be sent again.

        Args:
            to: Its sequence number, one of `status()["packages"]`; 0 for the base model; None for the one
                before that which runs now.

        Raises:
            DeviceInputError: The store holds no such package, or there is no store.
            PackageError: It may not be run; the device keeps the parameters that it has.
        """
        self._parameters.roll_back(to)

    def bake(self) -> bool:
        """Make the running parameters constants of the model, for when the device is idle.

        The answers stay the same and may come faster, until the next package comes. It takes as long as
        opening the graphs, and their memory a second time; answers go on meanwhile.

        Returns:
            Whether that is done; False if other parameters were taken up meanwhile.
        """
        return self._parameters.bake(self._baked)

    def trust(self, public_key: str) -> None:
        """Pin the key of the first cloud that is met (trust on first use); kept in the store if there is one.

        Whoever controls the first connection can pass for the cloud. Where that matters, export with a key or
        give one to the device.

        Raises:
            CloudError: If the key is malformed, or another one is trusted already.
        """
        self._parameters.trust(public_key)

    def follow(self, endorsements: Sequence[Endorsement], delegation: Delegation | None = None) -> bool:
        """Trust the key that the root delegates, or, without a root, the last of the chain of endorsements.

        Where that is a key outside of the chain, what former keys have signed is dropped.

        Args:
            endorsements: Of the cloud's keys.
            delegation: The root's word that the cloud hands out.

        Returns:
            Whether that is another key, or another generation.

        Raises:
            BadSignature: If the root, or the key before, has not signed it.
        """
        return self._parameters.follow(endorsements, delegation)

    def heed(self, data: bytes) -> bool:
        """Take a notice of the cloud: drop the packages that it calls back, and run what is allowed.

        Args:
            data: As `/v1/notice/MODEL` gives it.

        Returns:
            Whether another package, or the base model, runs because of it.

        Raises:
            PackageError: The notice may not be believed, or is older than one that was taken.
        """
        return self._parameters.heed(data)

    def status(self) -> dict[str, Any]:
        """What the device runs and why it runs nothing newer, as JSON types.

        `source` is `base`, `cloud` or `store`, `sequence` the package's, `version` that of the
        model which made it, and `why` says in a sentence why it
        is this one; `baked`: whether it is constants of the model now. `expired`: the running package could
        not be taken up now; it is still run, as the device may be offline for long. `packages`: those that
        `roll_back` can go to. `generation`: of the cloud's key; None without a root. `notice`: the newest
        word on what is called back, with `age_s`, `expired`, `to_base` and `withdrawn` versions; None: none
        has come yet. `refused`: the last refusal since a success. `store_error`: why the last change
        could not be kept.
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
            DeviceInputError: If the user's name is malformed, or too long with the device's id.
        """
        if not user:
            raise DeviceInputError("a user's name may not be empty")
        return check_device_id(f"{self.device_id}:{user}")


def check_device_id(device_id: str) -> str:
    """Return a device id. Raises DeviceInputError if it is malformed."""
    if not isinstance(device_id, str) or not DEVICE_ID.fullmatch(device_id):
        raise DeviceInputError(
            "a device id begins with a letter or digit and has at most 128 letters, digits and ._:@+-"
        )
    return device_id


def check_public_key(public_key: str | None) -> str | None:
    """Return a public key in hex. Raises DeviceInputError if it is malformed."""
    if public_key is not None and not is_public_key(public_key):
        raise DeviceInputError("a public key is 64 lower-case hex digits")
    return public_key
