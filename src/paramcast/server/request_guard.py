"""Checks of requests: signatures, clocks, replays and rates. Every refusal says what to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field, replace

from paramcast.errors import InputError
from paramcast.protocol import BadSignature, Credentials, MessageError
from paramcast.server.db.identities import KEYS_THAT_HOLD, Known, owner_of

ADAPT = ("POST", "/v1/adapt")


class RefusedError(InputError):
    """The request is refused.

    Attributes:
        code: `malformed`, `unsigned`, `foreign`, `unknown`, `revoked`, `clock` or `replayed`. A signer
            without a current or former key of the device gets `unknown`, whether the name is known or not.
        nonce: Nonce of the request, if it was signed.
        time_us: Unix microseconds at which a signed request would be accepted; only with `clock` and
            `replayed`.
    """

    def __init__(self, code: str, message: str, nonce: str = "", time_us: int | None = None) -> None:
        super().__init__(message)
        self.code, self.nonce, self.time_us = code, nonce, time_us


class TooManyError(InputError):
    """The client sends more requests than allowed.

    Attributes:
        retry_after_s: Seconds after which it may send a request again.
    """

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many requests; ask again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Claim:
    """A request's claim to come from a device.

    Attributes:
        device: Name of the device, or of its user, that the request is for.
        credentials: Content of the `authorization` header, or None if the request is not signed.
        digest: sha256 of the body.
        method: HTTP method of the request.
        path: Path of the request.
        cost: Cost of the request within the device's rate; 1 for an ordinary request.
        key: The key that signed the request, hex, if it was checked before; else None.
    """

    device: str
    credentials: Credentials | None
    digest: bytes
    method: str = ADAPT[0]
    path: str = ADAPT[1]
    cost: float = 1.0
    key: str | None = None


@dataclass(frozen=True)
class RequestGuard:
    """Rules for accepting requests.

    Attributes:
        required: Accept only requests of enrolled devices. Otherwise unsigned requests are served too, except
            in the name of an enrolled device.
        skew_s: Seconds by which a device's clock may be wrong.
        rate_per_minute: Long-term limit of signed requests of a device; 0 for no limit. Unsigned requests
            have no limit: a client could use any name, and so use up the limit of another device.
        burst: Number of requests that may come at once.
        clock: Returns the unix time in seconds.
    """

    required: bool = False
    skew_s: float = 300.0
    rate_per_minute: float = 0.0
    burst: int = 10
    clock: Callable[[], float] = field(default=time.time)

    def admit(self, claim: Claim, table: MutableMapping[str, Known]) -> str | None:
        """Accept a request, and record in `table` the time of its signature and the used rate of its device.

        Returns:
            The key that signed it (hex), or None if it is not signed and need not be.

        Raises:
            RefusedError: The signature is missing or not accepted, or its time is not.
            TooManyError: The device sends too many requests.
        """
        device, credentials = claim.device, claim.credentials
        owner = owner_of(device)
        if credentials is None:
            if device in table or owner in table:
                raise RefusedError("unsigned", f"requests of device {device} must be signed")
            self.check_signed(None)
            return None
        if credentials.device not in (device, owner):
            raise RefusedError("foreign", f"device {credentials.device} signed a request of {device}")
        device = credentials.device  # requests of a device's users use its time and rate
        known = table.get(device, Known())
        key = _signing_key(claim, credentials, known)
        if owner is not None and owner in table and not table[owner].keys:
            raise RefusedError(
                "revoked", f"the keys of device {owner} are revoked, and with them the keys of its users"
            )
        now_us = int(1e6 * self.clock())
        known = self._put_right(known, now_us)
        # The signature is checked first, so that only the device learns when it was served last.
        if abs(credentials.time_us - now_us) > 1e6 * self.skew_s:
            raise RefusedError(
                "clock",
                f"the device's clock differs from this service's by more than {self.skew_s:.0f} s",
                credentials.nonce,
                max(now_us, known.signed_at + 1),
            )
        if credentials.time_us <= known.signed_at:
            raise RefusedError(
                "replayed",
                "this request was served already, or is older than one that was",
                credentials.nonce,
                max(now_us, known.signed_at + 1),
            )
        spent = self._spent(known.spent_until, now_us, claim.cost)
        table[device] = replace(known, signed_at=credentials.time_us, spent_until=spent)
        return key

    def check_signed(self, credentials: Credentials | None) -> None:
        """Check that the request is signed if it has to be; needs no body.

        Raises:
            RefusedError: The request is not signed, but must be.
        """
        if credentials is None and self.required:
            raise RefusedError("unsigned", "requests to this service must be signed by an enrolled device")

    def _put_right(self, known: Known, now_us: int) -> Known:
        """Reset recorded times of a device that no correct clock can have given.

        No service accepts a signature's time that is later than its own clock by more than the skew, and the
        clocks of services on one state differ by less than the skew. If a later time is on record, the
        service's clock was ahead when it was written. Requests with such times are outside of the skew now,
        so none of them is accepted again.
        """
        latest = self.latest_us()
        signed_at = known.signed_at if known.signed_at <= latest else 0
        cost_us = 60e6 / self.rate_per_minute if self.rate_per_minute > 0 else 0.0
        spent_until = known.spent_until if known.spent_until <= latest + self.burst * cost_us else 0
        return replace(known, signed_at=signed_at, spent_until=spent_until)

    def latest_us(self) -> int:
        """Return the latest time of a signature (unix microseconds) that a correct clock can have given."""
        return int(1e6 * (self.clock() + 2 * self.skew_s))

    def _spent(self, spent_until: int, now_us: int, cost: float = 1.0) -> int:
        """Apply the generic cell rate algorithm, which needs one number for each device.

        Returns the time (unix microseconds) up to which the rate is used up. Raises TooManyError.
        """
        if self.rate_per_minute <= 0:
            return spent_until
        one_us = 60e6 / self.rate_per_minute
        spent = max(now_us, spent_until) + min(cost, self.burst) * one_us
        over_us = spent - now_us - self.burst * one_us
        if over_us > 0:
            raise TooManyError(max(1, -int(-over_us // 1e6)))
        return int(spent)


class AddressRates:
    """Limits the rate of an action by address, for routes without a signature.

    Only this process keeps the counts, for at most `_MOST` addresses.
    """

    _MOST = 4096

    def __init__(self, per_minute: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Allow `per_minute` actions in the long run, and `burst` at once."""
        self._guard = RequestGuard(rate_per_minute=per_minute, burst=burst)
        self._clock = clock
        self._spent: dict[str, int] = {}
        self._lock = threading.Lock()

    def use(self, address: str) -> None:
        """Count one more action of an address. Raises TooManyError if there are too many."""
        now_us = int(1e6 * self._clock())
        with self._lock:
            spent = self._guard._spent(self._spent.get(address, 0), now_us)
            self._spent.pop(address, None)
            self._spent[address] = spent  # at the end, so that the first entry is the oldest
            if len(self._spent) > self._MOST:
                del self._spent[next(iter(self._spent))]


class Patience:
    """Delays answers to unsigned requests of one address if they come too fast.

    A client that sends its next request as soon as it has an answer is slowed down by this. Waiting costs the
    service nothing, and the saved time is free for devices.
    """

    _MOST = 4096

    def __init__(
        self,
        per_s: float = 50.0,
        burst: int = 200,
        longest_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Answer `per_s` requests a second in the long run and `burst` at once without a delay."""
        self._each_s, self._ahead_s, self._longest_s = 1 / per_s, burst / per_s, longest_s
        self._clock = clock
        self._spent: dict[str, float] = {}

    def wait_s(self, address: str) -> float:
        """Return the seconds by which the next answer to the address is delayed."""
        now = self._clock()
        spent = max(self._spent.pop(address, 0.0), now) + self._each_s
        self._spent[address] = spent = min(spent, now + self._ahead_s + self._longest_s)
        if len(self._spent) > self._MOST:
            del self._spent[next(iter(self._spent))]
        return max(0.0, spent - now - self._ahead_s)


def read_credentials(header: str | None) -> Credentials | None:
    """Read the `authorization` header, if there is one. Raises RefusedError if it is malformed."""
    if header is None:
        return None
    try:
        return Credentials.read(header)
    except MessageError as error:
        raise RefusedError("malformed", str(error)) from error


def replayed(claim: Claim, now_us: int) -> RefusedError:
    """Make the refusal of a request whose time is not newer than that of a request accepted meanwhile."""
    assert claim.credentials is not None
    return RefusedError(
        "replayed",
        "this request was served already, or is older than one that was",
        claim.credentials.nonce,
        max(now_us, claim.credentials.time_us + 1),
    )


def _signing_key(claim: Claim, credentials: Credentials, known: Known) -> str:
    if claim.key is not None and claim.key in known.keys:
        return claim.key
    for key in [*known.keys, *known.ended][:KEYS_THAT_HOLD]:
        try:
            credentials.check(key, claim.method, claim.path, claim.digest)
        except BadSignature:
            continue
        if key in known.keys:
            return key
        raise RefusedError(
            "revoked", f"this key of device {credentials.device} is revoked or replaced; enrol it again"
        )
    raise RefusedError(
        "unknown", f"no key of device {credentials.device} that is enrolled here has signed this request"
    )
