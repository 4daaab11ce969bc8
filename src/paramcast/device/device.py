"""The device that users hold: one object that predicts, observes, asks and tells how it is."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypedDict

from paramcast.device.client import CloudClient, take_notice
from paramcast.device.errors import CloudError, DeviceInputError
from paramcast.device.exchange import Keys
from paramcast.device.identity import DeviceIdentity
from paramcast.device.loop import AdaptationLoop, Cloud
from paramcast.device.module_runtime import ModuleRuntime
from paramcast.device.parameters import WhenExpired
from paramcast.device.policy.base import RequestPolicy
from paramcast.device.policy.budget import Budget
from paramcast.device.policy.fixed import Never
from paramcast.errors import ParamcastError
from paramcast.protocol import AdaptRequest, Package


class Failure(TypedDict):
    """What went wrong: the error's class, and its message."""

    error: str
    message: str


class CloudStatus(TypedDict):
    """How the server was.

    Keys:
        asked, taken: Requests, and updates taken up.
        bytes_up, bytes_down: Bytes of bodies.
        failures: In a row.
        last_failure: None after a success.
        waits_for: Why nothing is asked although the policy wants to; None if it does not want to.
    """

    asked: int
    taken: int
    bytes_up: int
    bytes_down: int
    failures: int
    last_failure: Failure | None
    waits_for: str | None


class NoticeStatus(TypedDict):
    """The newest notice that the device has taken.

    Keys:
        age_s: Seconds since the server signed it: a large age tells that notices are held back.
        expired: Whether a newer one should have come by now.
        to_base: Whether the server has devices run their base model.
        withdrawn: Versions of the model whose updates are called back.
    """

    age_s: float
    expired: bool
    to_base: bool
    withdrawn: list[int]


class DeviceStatus(TypedDict):
    """What a device runs and why it runs nothing newer; JSON types throughout.

    Keys:
        device, model, task, adapter: Its id, the sha256 of the base model, and what the model is.
        support: Examples that are remembered.
        source: 'base', 'cloud' (an update that has just come) or 'store' (one from before the start).
        sequence, expires, expired: The update's number (0: base), its time, and whether that is over.
        version: Of the server's model that made it; None where none is said.
        why: Why this one, in a sentence.
        baked: Whether the parameters are constants of the model now.
        packages: Updates that `roll_back` can go to.
        public_key: Of the server, hex.
        generation: In which the root has delegated that key; None without a root.
        notice: The newest word of the server on what is called back; None: there was none yet.
        refused: The last refusal since a success.
        store_error: Why the last change could not be kept.
        cloud: How the server was; None without one.
    """

    device: str
    model: str
    task: str
    adapter: str
    support: int
    source: str
    sequence: int
    version: int | None
    expires: int | None
    expired: bool
    why: str
    baked: bool
    packages: list[int]
    public_key: str | None
    generation: int | None
    notice: NoticeStatus | None
    refused: Failure | None
    store_error: str | None
    cloud: CloudStatus | None


class Device:
    """One device with an exported module: works without any server, and adapts where there is one.

    Every method may be called by several threads at once; `predict` never waits for another.
    """

    def __init__(
        self,
        folder: Path | str,
        id: str = "device",
        server: Any = None,
        store: Path | str | None = None,
        policy: RequestPolicy | None = None,
        public_key: str | None = None,
        *,
        identity: DeviceIdentity | Path | str | None = None,
        budget: Budget | None = None,
        uplink_noise: float = 0.0,
        timeout_s: float = 30.0,
        tls: ssl.SSLContext | None = None,
        root: str | None = None,
        when_expired: WhenExpired = "keep",
    ) -> None:
        """Start the device; goes on with the last update that `store` holds, if it may.

        Args:
            folder: `artifact/device`, or the artifact.
            id: A letter or digit, then up to 127 of letters, digits and `._:@+-`.
            server: URL of a server, an object with `adapt(bytes) -> bytes` such as a server in this process,
                or None.
            store: A folder for updates and the pinned key, which devices, users and models may share.
            policy: When `observe` asks by itself; None: never, only `adapt` asks.
            public_key: Hex of the server's key; else the artifact's, else the one that `store` has pinned,
                else that of the first server met.
            identity: Of an enrolled device, or the folder that `paramcast device enroll` wrote.
            budget: What asking may cost.
            uplink_noise: Standard deviation of the noise on what is sent, where the features' own is 1.
            timeout_s: Seconds that one attempt to reach the server may last.
            tls: Whom to trust, and a certificate to show.
            root: Hex of the root's key: the artifact has to be signed by it (`paramcast root sign`), and only
                keys that it delegates are trusted; None: the artifact's, if it names one.
            when_expired: What runs when the time of the running update, or of the newest notice, is over: it
                ("keep"), or the base model ("base").

        Raises:
            ArtifactError: The folder is damaged, of another kind, or its model does not work.
            DeviceInputError: An argument is malformed.
        """
        if policy is not None and server is None:
            raise DeviceInputError("a policy asks a server: give server=, or no policy")
        runtime = ModuleRuntime.load(
            folder, id, store, public_key, uplink_noise, root=root, when_expired=when_expired
        )
        cloud: Cloud | None = None
        if isinstance(server, str):
            known = DeviceIdentity.load(identity) if isinstance(identity, Path | str) else identity
            cloud = CloudClient(server, timeout_s, identity=known, tls=tls)
        elif server is not None:
            cloud = LocalCloud(server)
        self._take(runtime, cloud, policy, budget)

    def _take(
        self, runtime: ModuleRuntime, cloud: Cloud | None, policy: RequestPolicy | None, budget: Budget | None
    ) -> None:
        self.runtime = runtime
        self._cloud = cloud
        self._loop = None if cloud is None else AdaptationLoop(runtime, cloud, policy or Never(), budget)

    @property
    def id(self) -> str:
        """The device's id."""
        return self.runtime.device_id

    def for_user(
        self, name: str, policy: RequestPolicy | None = None, budget: Budget | None = None
    ) -> Device:
        """Return another user of this device: the same model in memory, examples and updates of its own.

        To the server it is a device of its own, called `id:name`.

        Args:
            name: Letters, digits and `._:@+-`.
            policy: Of this user; policies keep a state, so that each user needs one of its own.
            budget: Of this user.

        Raises:
            DeviceInputError: The name is malformed.
        """
        user: Device = object.__new__(type(self))
        user._take(self.runtime.for_user(name), self._cloud, policy, budget)
        return user

    def forget_user(self, name: str) -> None:
        """Erase what the store keeps of a user who has gone: updates, keys, and its newest notice.

        Raises:
            DeviceInputError: The name is malformed, or the store cannot be written.
        """
        self.runtime.forget_user(name)

    def observe(self, x: Any) -> bool:
        """Add examples to the support set; with a policy, ask if that is due, and wait for the server.

        Whatever the server does, nothing is raised for it: `status` tells.

        Args:
            x: Inputs as `predict` takes them.

        Returns:
            Whether an update was taken up.

        Raises:
            DeviceInputError: The inputs do not fit the model.
        """
        if self._loop is None:
            self.runtime.observe(x)
            return False
        return self._loop.observe(x)

    def adapt(self) -> Package:
        """Ask for an update now, with all remembered examples, and take it up.

        Returns:
            The update.

        Raises:
            CloudError: The server cannot be reached or refuses.
            PackageError: The update may not be run; the device keeps the parameters that it has.
            DeviceInputError: There is no server, or nothing has been observed.
        """
        if self._loop is None:
            raise DeviceInputError("this device has no server: Device(folder, id, server=URL)")
        return self._loop.adapt()

    def predict(self, x: Any) -> Any:
        """Run the module under the present parameters.

        Args:
            x: An array where the module takes one; a tuple of arrays in the order of its arguments, or a
                dictionary by their names, nested as the module takes them; N examples each.

        Returns:
            Arrays in the structure of the module's outputs: an array, a list or a dictionary.

        Raises:
            DeviceInputError: The inputs do not fit the model.
        """
        if self._loop is not None:
            self._loop.heed_in_background()
        return self.runtime.predict(x)

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Names of the classes, if the artifact has them."""
        return self.runtime.artifact.labels

    @property
    def status(self) -> DeviceStatus:
        """What the device runs, and why."""
        told: Any = self.runtime.status() | {"cloud": None} if self._loop is None else self._loop.status()
        return {key: told[key] for key in DeviceStatus.__annotations__}  # type: ignore[return-value]

    def roll_back(self, to: int | None = None) -> None:
        """Run an earlier update again, or the base model; later updates are taken up as ever.

        Args:
            to: Its number, one of `status["packages"]`; 0 for the base model; None for the one before
                that which runs now.

        Raises:
            DeviceInputError: The store holds no such update, or there is no store.
            PackageError: It may not be run; the device keeps the parameters that it has.
        """
        self.runtime.roll_back(to)

    def heed(self) -> bool:
        """Ask the server now what it calls back, and run what is allowed; else that is asked every hour.

        Returns:
            Whether another update, or the base model, runs because of it.

        Raises:
            CloudError: The server cannot be reached.
            PackageError: Its notice may not be believed.
            DeviceInputError: There is no server.
        """
        if self._loop is None:
            raise DeviceInputError("this device has no server: Device(folder, id, server=URL)")
        return self._loop.heed()

    def bake(self) -> bool:
        """Make the running parameters constants of the model, for when the device is idle.

        Returns:
            Whether that is done; False if other parameters were taken up meanwhile.
        """
        return self.runtime.bake()

    def close(self) -> None:
        """Close the connections to the server."""
        if isinstance(self._cloud, CloudClient):
            self._cloud.close()

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class LocalCloud:
    """A service in the same process, in the place of a connection."""

    def __init__(self, service: Any) -> None:
        """Use `service.adapt(bytes) -> bytes`, and its `public_key` if it has one.

        Raises:
            DeviceInputError: There is no such method.
        """
        if not callable(getattr(service, "adapt", None)):
            raise DeviceInputError("server must be a URL or an object with adapt(bytes) -> bytes")
        self._service = service

    def trust(self, runtime: Any) -> None:
        """Pin the service's key, or have the device's root say which it is."""
        if runtime.root is not None:
            self.follow(runtime)
            return
        key = getattr(self._service, "public_key", None)
        if key is None:
            raise CloudError("the server tells no public_key; give one: Device(..., public_key=HEX)")
        runtime.trust(str(key))

    def follow(self, runtime: Any) -> None:
        """Have the device trust the service's newest key, by the service's `keys` if it has them."""
        keys = getattr(self._service, "keys", None)
        if not isinstance(keys, Mapping):
            raise CloudError("the update is not signed by the key that this device trusts")
        runtime.follow(*Keys.of(keys))

    def heed(self, runtime: Any, fresh: bool = True) -> bool:
        """Have the device take the service's notice, by `notice(model) -> bytes` if it has that."""
        notice = getattr(self._service, "notice", None)
        data = notice(runtime.model) if callable(notice) else None
        return data is not None and take_notice(self, runtime, data)

    def exchange(self, request: AdaptRequest) -> bytes:
        """Have an update made."""
        try:
            return bytes(self._service.adapt(request.encode()))
        except ParamcastError as error:
            raise CloudError(f"the server refused: {error}") from error
