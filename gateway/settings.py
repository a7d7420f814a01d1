"""Settings: one frozen object, read once from the environment at start."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.domain.key import is_id
from gateway.errors import ConfigError

Port = Annotated[int, Field(ge=0, le=65535)]
PREFIX = "GATEWAY_"
_DURATION_MS_MAX = 24 * 3_600_000


class Settings(BaseModel):
    """What the environment says. Each field's description is its row in the README."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    redis_url: str = Field("", description="redis://, rediss:// or unix:// of the budgets")
    database_url: str = Field("", description="postgresql:// of the ledger")
    host: str = Field("127.0.0.1", description="address of the data and control planes")
    port: Port = Field(8080, description="port of the data plane")
    control_port: Port = Field(8081, description="port of the control plane")
    webhook_port: Port = Field(8082, description="port of the Stripe webhooks alone")
    ops_host: str = Field("127.0.0.1", description="address of livez, readyz and metrics")
    ops_port: Port | None = Field(None, description="their port; 0 is off; 9464 serve, 9466 worker")
    admin_token: str = Field("", description="bearer token of the control plane")
    auth: Literal["key", "none"] = Field("key", description="none trusts the network: loopback")
    org: str = Field("", description="the org of every call where auth is none")
    fail_mode: Literal["closed"] = Field("closed", description="what happens when Redis is away")
    expose_amounts: Literal["full", "own", "none"] = Field(
        "full", description="amounts in denials: full, own (not above the key's scope), none"
    )
    spool_dir: Path = Field(
        Path(".budget-gateway/spool"), description="folder for settles that could not reach Redis"
    )
    credentials_dir: Path = Field(
        Path(".budget-gateway/credentials"), description="folder that file: header values live in"
    )
    max_body_bytes: int = Field(
        32 * 2**20, gt=0, description="largest request body that is forwarded"
    )
    drain_s: float = Field(30.0, ge=0, le=3600, description="how long a stop waits for open calls")
    hold_ttl_ms: int = Field(
        742_000,
        gt=0,
        le=_DURATION_MS_MAX,
        description="life of a hold without a limit of its own: read timeout x 1.2 + 10 s",
    )
    store_deadline_ms: int = Field(
        50, gt=0, le=10_000, description="time for one call to Redis before the answer is 503"
    )
    journal_entries_max: int = Field(
        5_000_000, gt=0, description="journal length above which nothing is admitted"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe log line that is written"
    )


def read_settings(environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Return the settings and a warning for each unknown ``GATEWAY_*`` name.

    A secret may come from a file named by ``<NAME>_FILE``. An empty value counts as not set.

    Raises:
        ConfigError: a value is wrong, or a file cannot be read; one sentence names it.
    """
    fields = {PREFIX + name.upper(): name for name in Settings.model_fields}
    values: dict[str, str] = {}
    warnings: list[str] = []
    for name, value in environ.items():
        if not name.startswith(PREFIX) or name.startswith(f"{PREFIX}CREDENTIAL_") or not value:
            continue
        base = name.removesuffix("_FILE")
        if name in fields:
            values[fields[name]] = value
        elif base in fields and name != base:
            values.setdefault(fields[base], _text_of(name, value))
        else:
            near = difflib.get_close_matches(name, fields, n=1)
            warnings.append(
                f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ".")
            )
    return _validated(values), warnings


def _text_of(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} names {path}, which cannot be read: {error}.") from error


def _validated(values: Mapping[str, str]) -> Settings:
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper()
        raise ConfigError(f"{name} is not usable: {first['msg']}.") from error
    if settings.auth == "none" and not settings.org:
        raise ConfigError("GATEWAY_ORG is needed where GATEWAY_AUTH is none.")
    if settings.org and not is_id(settings.org):
        raise ConfigError(
            f"GATEWAY_ORG is {settings.org!r}; expected 1 to 48 letters, digits, _ or -."
        )
    if settings.auth == "none" and settings.host not in ("127.0.0.1", "::1", "localhost"):
        raise ConfigError("GATEWAY_AUTH=none trusts the network, so GATEWAY_HOST must be loopback.")
    return settings
