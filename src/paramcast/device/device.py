"""Device for users: one object that predicts, observes examples, requests updates and reports its state."""

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
    """Class and message of an error."""

    error: str
    message: str


class CloudStatus(TypedDict):
    """Statistics of the exchanges with the server.

    Keys:
        asked, taken: Number of requests, and of updates taken up.
        bytes_up, bytes_down: Bytes of the bodies sent and received.
        failures: Number of failures in a row.
        last_failure: Last failure; None after a success.
        waits_for: Reason why no request is made although the policy wants one; None if it wants none.
    """

    asked: int
    taken: int
    bytes_up: int
    bytes_down: int
    failures: int
    last_failure: Failure | None
    waits_for: str | None


class NoticeStatus(TypedDict):
    """Newest notice that the device has taken.

    Keys:
        age_s: Seconds since the server signed the notice; a large age shows that notices are held back.
        expired: Whether a newer notice should have come by now.
        to_base: Whether the server tells devices to run their base model.
        withdrawn: Versions of the model whose updates are recalled.
    """

    age_s: float
    expired: bool
    to_base: bool
    withdrawn: list[int]


class DeviceStatus(TypedDict):
    """State of a device: what it runs and why it runs nothing newer. All values have JSON types.

    Keys:
        device, model, task, adapter: Id of the device, sha256 of the base model, its task and adapter.
        support: Number of examples in the support set.
        source: 'base', 'cloud' (an update that came since the start) or 'store' (an update from the store).
        sequence, expires, expired: Number of the update (0 for the base), its end, and whether that has come.
        version: Version of the server's model that made the update; None where the update names none.
        why: Sentence that says why this update runs.
        baked: Whether the parameters are constants of the model now.
        packages: Numbers of the updates that `roll_back` can go to.
        public_key: Public key of the server, hex.
        generation: Generation in which the root has delegated that key; None without a root.
        notice: Newest notice of the server about recalled updates; None if no notice has come yet.
        refused: Last refusal since a success.
        store_error: Reason why the last change could not be kept in the store.
        cloud: Statistics of the exchanges with the server; None without a server.
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
    """One device with an exported module. It works without any server, and adapts where there is a server.

    Several threads may call every method at once; `predict` never waits for another method.
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
        """Start the device with the last update in `store`, if that may run, else with the base model.

        Args:
            folder: `artifact/device`, or the artifact.
            id: A letter or digit, then up to 127 of letters, digits and `._:@+-`.
            server: URL of a server, an object with `adapt(bytes) -> bytes` such as a server in this process,
                or None.
            store: Folder for updates and the pinned key, which devices, users and models may share.
            policy: Decides when `observe` requests an update; None: only `adapt` requests updates.
            public_key: Hex of the server's key; else the artifact's key, else the key pinned in `store`, else
                the key of the first server that is reached.
            identity: Identity of an enrolled device, or the folder that `paramcast device enroll` wrote.
            budget: Limits of the cost of requests.
            uplink_noise: Standard deviation of the noise that is added to the numbers sent; the features have
                the standard deviation 1.
            timeout_s: Longest duration of one attempt to reach the server, in seconds.
            tls: The authorities to trust and a client certificate.
            root: Hex of the root's key; None for the root that the artifact names, if any. The root must have
                signed the artifact (`paramcast root sign`), and only keys that it delegates are trusted.
            when_expired: Parameters to run after the running update or the newest notice has expired: the
                update ("keep"), or the base model ("base").

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
        """Id of the device."""
        return self.runtime.device_id

    def for_user(
        self, name: str, policy: RequestPolicy | None = None, budget: Budget | None = None
    ) -> Device:
        """Return a device for another user. It shares the model in memory, but no examples or updates.

        The server treats it as a separate device with the id `id:name`.

        Args:
            name: Letters, digits and `._:@+-`.
            policy: Policy of this user. Policies keep a state, so each user needs a separate policy.
            budget: Budget of this user.

        Raises:
            DeviceInputError: The name is malformed.
        """
        user: Device = object.__new__(type(self))
        user._take(self.runtime.for_user(name), self._cloud, policy, budget)
        return user

    def forget_user(self, name: str) -> None:
        """Erase a former user of this device from the store: the user's updates, keys and newest notice.

        Raises:
            DeviceInputError: The name is malformed, or the store cannot be written.
        """
        self.runtime.forget_user(name)

    def observe(self, x: Any) -> bool:
        """Add examples to the support set. If the policy decides so, request an update and wait for it.

        A failure of the server raises no error; `status` reports it.

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
        """Request an update now, with all examples of the support set, and take it up.

        Returns:
            The update.

        Raises:
            CloudError: The server cannot be reached or refuses.
            PackageError: The update may not be run; the device keeps its present parameters.
            DeviceInputError: There is no server, or no example has been observed.
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
        """State of the device: what it runs, and why."""
        told: Any = self.runtime.status() | {"cloud": None} if self._loop is None else self._loop.status()
        return {key: told[key] for key in DeviceStatus.__annotations__}  # type: ignore[return-value]

    def roll_back(self, to: int | None = None) -> None:
        """Run an earlier update again, or the base model. Updates that arrive later are still taken up.

        Args:
            to: Number of the update, one of `status["packages"]`; 0 for the base model; None for the update
                before the running one.

        Raises:
            DeviceInputError: The store holds no such update, or there is no store.
            PackageError: The update may not be run; the device keeps its present parameters.
        """
        self.runtime.roll_back(to)

    def heed(self) -> bool:
        """Fetch the server's notice of recalled updates now, and obey it. By default this happens every hour.

        Returns:
            Whether another update, or the base model, runs because of the notice.

        Raises:
            CloudError: The server cannot be reached.
            PackageError: The notice is not valid, or is older than one that was taken.
            DeviceInputError: There is no server.
        """
        if self._loop is None:
            raise DeviceInputError("this device has no server: Device(folder, id, server=URL)")
        return self._loop.heed()

    def bake(self) -> bool:
        """Make the running parameters constants of the model. Call it while the device is idle.

        Returns:
            True if the parameters are constants now; False if other parameters were taken up meanwhile.
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
    """Service in the same process, used instead of a connection."""

    def __init__(self, service: Any) -> None:
        """Use `service.adapt(bytes) -> bytes`, and `service.public_key` if there is one.

        Raises:
            DeviceInputError: The service has no method `adapt`.
        """
        if not callable(getattr(service, "adapt", None)):
            raise DeviceInputError("server must be a URL or an object with adapt(bytes) -> bytes")
        self._service = service

    def trust(self, runtime: Any) -> None:
        """Let the device pin the service's key, or trust the key that the device's root delegates."""
        if runtime.root is not None:
            self.follow(runtime)
            return
        key = getattr(self._service, "public_key", None)
        if key is None:
            raise CloudError("the server gives no public_key; set it: Device(..., public_key=HEX)")
        runtime.trust(str(key))

    def follow(self, runtime: Any) -> None:
        """Let the device trust the service's newest key, by the endorsements or delegation in its `keys`."""
        keys = getattr(self._service, "keys", None)
        if not isinstance(keys, Mapping):
            raise CloudError("the update is not signed by the key that this device trusts")
        runtime.follow(*Keys.of(keys))

    def heed(self, runtime: Any, fresh: bool = True) -> bool:
        """Give the device the service's notice, if the service has `notice(model) -> bytes`."""
        notice = getattr(self._service, "notice", None)
        data = notice(runtime.model) if callable(notice) else None
        return data is not None and take_notice(self, runtime, data)

    def exchange(self, request: AdaptRequest) -> bytes:
        """Send a request to the service and return the sealed update."""
        try:
            return bytes(self._service.adapt(request.encode()))
        except ParamcastError as error:
            raise CloudError(f"the server refused: {error}") from error
