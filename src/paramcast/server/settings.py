"""All settings of the service: options of `paramcast serve`, `PARAMCAST_...` variables, or a TOML file."""

from __future__ import annotations

import os
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from paramcast.errors import InputError
from paramcast.protocol.quantize import DEFAULT_QUANTIZATION

_CENTURY_S = 36500 * 86400
_NO_SETTINGS = {f"PARAMCAST_{name}" for name in ("CONFIG", "TOKEN", "CACHE", "BROWSER", "YAMNET")}
"""Variables with the prefix that are no settings; other code reads them."""


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Settings(BaseSettings):
    """Settings of one service. Options take precedence over variables, and variables over the file."""

    model_config = SettingsConfigDict(env_prefix="PARAMCAST_", extra="forbid")

    artifact: Annotated[list[Path], NoDecode] = Field(
        [], description="folders of exported models to serve, in place of the published models"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    internal_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="separate port for health, metrics and operators; `port` then does not answer these",
    )
    internal_host: str = Field("127.0.0.1", description="address of `internal_port`")
    behind_proxy: bool = Field(
        False,
        description="a reverse proxy is in front: it ends TLS, and X-Forwarded-For names the client",
    )
    connections: int = Field(2048, ge=16, le=65536, description="largest number of connections at a time")
    key: Path = Field(Path("paramcast.key"), description="file of the signing key; made on first use")
    delegation: Path | None = Field(
        None, description="file of the root's delegation to the signing key: `paramcast root delegate`"
    )
    state: str | None = Field(None, description="file or URL of the state; beside the key if not set")
    journal: Path | None = Field(
        None, description="file of acts that a restore repeats, such as revocations; beside a state in a file"
    )
    store: Path | None = Field(None, description="folder of published models; beside a state in a file")
    quantization: Literal["fp32", "fp16", "int8", "int4"] = Field(
        DEFAULT_QUANTIZATION, description="number format in which parameters are sent"
    )
    lifetime_s: int = Field(
        7 * 86400, gt=0, le=_CENTURY_S, description="seconds in which a device may apply a package"
    )
    require_enrolment: bool = Field(False, description="serve enrolled devices only")
    clock_skew_s: float = Field(
        300, ge=1, le=86400, allow_inf_nan=False, description="seconds by which a device's clock may be wrong"
    )
    rate_per_minute: float = Field(
        60,
        ge=0,
        le=1e6,
        allow_inf_nan=False,
        description="signed requests of a device per minute in the long run; 0: no limit",
    )
    burst: int = Field(
        60, ge=1, le=1_000_000, description="signed requests of a device that may come at once"
    )
    largest_batch: int = Field(32, ge=1, le=1024, description="largest number of requests in a batch")
    waiting_room: int = Field(
        512, ge=1, le=65536, description="largest number of waiting requests; more are answered 429"
    )
    keep_days: float = Field(
        30,
        gt=0,
        le=36500,
        allow_inf_nan=False,
        description="days for which packages and feedback stay on record",
    )
    drain_s: int = Field(
        30, ge=1, le=3600, description="seconds after SIGTERM to finish the requests under way"
    )
    log_format: Literal["text", "json"] = Field("text", description="lines of text, or JSON objects")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level that is logged"
    )
    otlp_endpoint: str | None = Field(
        None, description="OpenTelemetry collector for traces, such as http://127.0.0.1:4318"
    )
    tls_certificate: Path | None = Field(None, description="certificate (PEM): serve HTTPS")
    tls_key: Path | None = Field(None, description="the certificate's private key (PEM)")
    tls_client_ca: Path | None = Field(
        None, description="authority (PEM): accept only clients with a certificate of this authority"
    )

    @classmethod
    def gather(cls, config: Path | None, **given: Any) -> Settings:
        """Read the settings from `given`, the environment and the TOML file `config`.

        Raises:
            InputError: If a key is unknown, a value is invalid, or the file cannot be read.
        """

        class Gathered(cls):  # type: ignore[valid-type, misc]
            model_config = SettingsConfigDict(toml_file=config)

        if config is not None and not config.is_file():
            raise InputError(f"there is no settings file {config}")
        known = {f"PARAMCAST_{name}".upper() for name in cls.model_fields} | _NO_SETTINGS
        for variable in os.environ:
            if variable.upper().startswith("PARAMCAST_") and variable.upper() not in known:
                near = get_close_matches(variable.upper(), known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise InputError(f"{variable} is no setting of paramcast{hint}")
        try:
            gathered: Settings = Gathered(**given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = ".".join(map(str, first["loc"])) or "settings"
            raise InputError(f"setting {name}: {first['msg']}") from error
        except ValueError as error:  # no TOML
            raise InputError(f"{config} is no TOML file: {error}") from error
        return gathered

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources in their order: options, variables, the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @field_validator("rate_per_minute")
    @classmethod
    def _not_next_to_nothing(cls, value: float) -> float:
        if 0 < value < 0.001:
            raise ValueError(
                "0 means no limit; another value must be 0.001 (one request in 17 hours) or more"
            )
        return value

    @field_validator("artifact", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        """Split the folders of a variable, which are separated like those of PATH."""
        return value.split(os.pathsep) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Settings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("TLS needs both tls_certificate and tls_key")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        if not (_is_loopback(self.host) or self.tls_certificate or self.behind_proxy):
            raise ValueError(
                f"host {self.host} can be reached from outside, and tokens and features would be "
                "sent in the clear: set tls_certificate and tls_key, or behind_proxy if a proxy in "
                "front ends TLS"
            )
        return self

    @property
    def where(self) -> str:
        """File or URL of the state."""
        return self.state or str(self.key.with_suffix(".db"))
