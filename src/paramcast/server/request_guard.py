"""Who is let in: signatures, clocks, replays and rates, each with an answer that says what to do."""

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
    """The request is not let in.

    Attributes:
        code: `malformed`, `unsigned`, `foreign`, `unknown`, `revoked`, `clock` or `replayed`. A signer
            without a key of the device, now or before, gets `unknown`, whether the name is known or not.
        nonce: Of the request, if it was signed.
        time_us: A time at which it could be signed and would be let in; of `clock` and `replayed` only.
    """

    def __init__(self, code: str, message: str, nonce: str = "", time_us: int | None = None) -> None:
        super().__init__(message)
        self.code, self.nonce, self.time_us = code, nonce, time_us


class TooManyError(InputError):
    """The device asks more often than it may.

    Attributes:
        retry_after_s: When it may ask again.
    """

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"this is asked too often; it may be again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Claim:
    """What a request says of who sends it.

    Attributes:
        device: In whose name it speaks.
        credentials: Of the header, or None if it is not signed.
        digest: sha256 of the body.
        method: Of the request.
        path: Of the request.
        cost: What it uses of the device's rate; of an ordinary request 1.
        key: The key that was found to have signed it, hex; None: nobody has looked.
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
    """The rules.

    Attributes:
        required: Let in only devices that are enrolled. Else unsigned requests are served too, except in the
            name of a device that is enrolled.
        skew_s: Seconds by which a device's clock may be wrong.
        rate_per_minute: Signed requests of a device in the long run; 0 for any number. Unsigned ones are not
            limited: whoever can make up a name could use up another's.
        burst: So many may come at once.
        clock: Unix time in seconds.
    """

    required: bool = False
    skew_s: float = 300.0
    rate_per_minute: float = 0.0
    burst: int = 10
    clock: Callable[[], float] = field(default=time.time)

    def admit(self, claim: Claim, table: MutableMapping[str, Known]) -> str | None:
        """Let a request in, and note in `table` that its device has used its time and rate.

        Returns:
            The key that signed it (hex), or None if it is not signed and need not be.

        Raises:
            RefusedError: It is not who it says, or is not let in now.
            TooManyError: It comes too often.
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
        device = credentials.device  # its users' requests are its own: they use its time and rate
        known = table.get(device, Known())
        key = _signing_key(claim, credentials, known)
        if owner is not None and owner in table and not table[owner].keys:
            raise RefusedError("revoked", f"the keys of device {owner} are revoked, and its users with it")
        now_us = int(1e6 * self.clock())
        known = self._put_right(known, now_us)
        # The signature comes first: nobody else is told when a device was here last.
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
        """Return if the request is signed or need not be: known before its body is read.

        Raises:
            RefusedError: It must be.
        """
        if credentials is None and self.required:
            raise RefusedError("unsigned", "requests to this service must be signed by an enrolled device")

    def _put_right(self, known: Known, now_us: int) -> Known:
        """What is known of a device, without times that no right clock can have given.

        No service believes a signature's time that is later than its own by more than the skew, and services
        on one state differ by less than that. If a later time is on record, the clock was ahead when it was
        written. Requests of that hour are out of the skew now, so that none of them is let in again.
        """
        latest = self.latest_us()
        signed_at = known.signed_at if known.signed_at <= latest else 0
        cost_us = 60e6 / self.rate_per_minute if self.rate_per_minute > 0 else 0.0
        spent_until = known.spent_until if known.spent_until <= latest + self.burst * cost_us else 0
        return replace(known, signed_at=signed_at, spent_until=spent_until)

    def latest_us(self) -> int:
        """Unix microseconds: no right clock can have given a later time of a signature."""
        return int(1e6 * (self.clock() + 2 * self.skew_s))

    def _spent(self, spent_until: int, now_us: int, cost: float = 1.0) -> int:
        """The generic cell rate algorithm: one number a device, whatever its rate and burst."""
        if self.rate_per_minute <= 0:
            return spent_until
        one_us = 60e6 / self.rate_per_minute
        spent = max(now_us, spent_until) + min(cost, self.burst) * one_us
        over_us = spent - now_us - self.burst * one_us
        if over_us > 0:
            raise TooManyError(max(1, -int(-over_us // 1e6)))
        return int(spent)


class AddressRates:
    """How often something may be done from one address: for what asks for no signature.

    Kept by this process alone, and for no more addresses than fit.
    """

    _MOST = 4096

    def __init__(self, per_minute: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Allow so many in the long run, and so many at once."""
        self._guard = RequestGuard(rate_per_minute=per_minute, burst=burst)
        self._clock = clock
        self._spent: dict[str, int] = {}
        self._lock = threading.Lock()

    def use(self, address: str) -> None:
        """Note that it is done once more. Raises TooManyError if it is too often."""
        now_us = int(1e6 * self._clock())
        with self._lock:
            spent = self._guard._spent(self._spent.get(address, 0), now_us)
            self._spent.pop(address, None)
            self._spent[address] = spent  # at the end: the first is the one that was here longest ago
            if len(self._spent) > self._MOST:
                del self._spent[next(iter(self._spent))]


class Patience:
    """How long unsigned requests of one address wait for their answer, where they come too fast.

    Whoever asks again as soon as he is answered is slowed down by that, at no cost: the time that his
    requests would take is the devices'.
    """

    _MOST = 4096

    def __init__(
        self,
        per_s: float = 50.0,
        burst: int = 200,
        longest_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Answer so many a second in the long run, and so many at once, without a wait."""
        self._each_s, self._ahead_s, self._longest_s = 1 / per_s, burst / per_s, longest_s
        self._clock = clock
        self._spent: dict[str, float] = {}

    def wait_s(self, address: str) -> float:
        """Seconds that the next answer to the address has to wait."""
        now = self._clock()
        spent = max(self._spent.pop(address, 0.0), now) + self._each_s
        self._spent[address] = spent = min(spent, now + self._ahead_s + self._longest_s)
        if len(self._spent) > self._MOST:
            del self._spent[next(iter(self._spent))]
        return max(0.0, spent - now - self._ahead_s)


def read_credentials(header: str | None) -> Credentials | None:
    """What an `authorization` header says, if there is one. Raises RefusedError if it says nothing."""
    if header is None:
        return None
    try:
        return Credentials.read(header)
    except MessageError as error:
        raise RefusedError("malformed", str(error)) from error


def replayed(claim: Claim, now_us: int) -> RefusedError:
    """The refusal of a request whose device's newest time another one has used meanwhile."""
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
