"""Reads the service's settings from environment variables."""

import difflib
import ipaddress
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, FilePath, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.tasks.errors import InputError
from models.tasks.remote.address import DEFAULT_HOST, DEFAULT_PORT, PREFIX
from models.tasks.remote.client import KEY_VARIABLE

KUBERNETES = re.compile(rf"{PREFIX}([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_[A-Z0-9_]+)")
KUBERNETES_PORT = re.compile(rf"{PREFIX}([A-Z0-9_]+_)?PORT")  # where its value is a URL
KEEPS_EMPTY = {"api_keys", "api_keys_file"}  # where a key is forgotten, the service must not be open to everyone


class SettingsError(InputError):
    """An environment variable is misspelt, or has a value that it cannot have."""


def _split(value: object) -> list[str]:
    """Split a text at its commas; a list or a tuple is split already."""
    if isinstance(value, list | tuple):
        return [str(part) for part in value]
    return [part.strip() for part in str(value).split(",") if part.strip()]


def _host(value: object) -> str:
    """Read an address, which may stand in brackets, or a name. Raises: ValueError."""
    host = str(value).strip()
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not re.fullmatch(r"[\w.-]+", host):
            raise ValueError(
                f"must be an address or a name, such as 0.0.0.0, :: or localhost; {variable('port')} sets the port"
            ) from None
    return host


def _port(value: object) -> object:
    """Refuse what Python reads as a number and others do not, such as 8_000. Raises: ValueError."""
    if isinstance(value, str) and not re.fullmatch(r"[0-9]+", value.strip()):
        raise ValueError("must be a number in digits alone, such as 8000")
    return value


def _origins(value: object) -> list[str]:
    """Read origins and write them as browsers send them. Raises: ValueError."""
    return [_origin(text) for text in _split(value)]


def _origin(text: str) -> str:
    if text in ("*", "null"):
        return text
    try:
        parts = urlsplit(text.lower())
        is_usual = parts.port == {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        parts, is_usual = urlsplit(""), False
    if not re.fullmatch(r"[^*@/]+", parts.netloc) or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("must be origins such as https://example.org or http://localhost:3000, or * for all")
    return f"{parts.scheme}://{parts.netloc.removesuffix(f':{parts.port}') if is_usual else parts.netloc}"


def _prefix(value: object) -> str:
    """Read a prefix of paths, with or without slashes at its ends. Raises: ValueError."""
    prefix = str(value).strip("/ ")
    if not re.fullmatch(r"[A-Za-z0-9._~/-]*", prefix) or {"", ".", ".."} & set(prefix.split("/")) - {prefix}:
        raise ValueError("must be a path of letters, digits and -._~, such as /models/qa")
    return f"/{prefix}" if prefix else ""


class Settings(BaseSettings):
    """Read from HALFDEPTH_ and the field's name in upper case; a misspelt variable is an error.

    An empty variable is the same as none, except for those of keys, where it is an error. Variables that Kubernetes
    injects for a Service whose name begins like ours are passed over.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    bundles: Annotated[Path, Field(description="directory of bundles, each in one of its own; or one bundle")] = Path(
        "bundles"
    )
    models: Annotated[
        tuple[str, ...],
        NoDecode,
        BeforeValidator(_split),
        Field(description="names on the Hugging Face Hub and directories, separated by commas, instead of BUNDLES"),
    ] = ()
    reload_seconds: Annotated[
        float,
        Field(
            ge=0,
            allow_inf_nan=False,
            description="how often to look for bundles that have changed, seconds; 0: at SIGHUP alone",
        ),
    ] = 0.0
    host: Annotated[
        str,
        BeforeValidator(_host),
        Field(description="address to listen on; 0.0.0.0 for all, as in a container, :: for all of IPv6 and IPv4"),
    ] = DEFAULT_HOST
    port: Annotated[int, BeforeValidator(_port), Field(ge=0, le=65535, description="TCP port; 0 takes a free one")] = (
        DEFAULT_PORT
    )
    uds: Annotated[
        Path | None, Field(description="Unix socket to listen on, instead of HOST and PORT; its directory must exist")
    ] = None
    root_path: Annotated[
        str,
        BeforeValidator(_prefix),
        Field(description="prefix of all paths behind a proxy, such as /models/qa, whether it strips it or not"),
    ] = ""
    max_body_bytes: Annotated[int, Field(ge=1, description="maximum length of a body, bytes")] = 2 * 1024 * 1024
    max_windows: Annotated[int, Field(ge=1, description="maximum number of windows of an input")] = 256
    max_inputs: Annotated[int, Field(ge=1, description="maximum number of inputs in a request")] = 1000
    threads: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=1, le=1024)],
        Field(
            description="cores: inferences at the same time, and threads of an inference that runs alone; auto measures"
        ),
    ] = "auto"
    max_queue_ms: Annotated[
        float,
        Field(
            ge=0,
            allow_inf_nan=False,
            description="longest estimated wait, ms; beyond it requests are refused",
        ),
    ] = 2000.0
    drain_seconds: Annotated[
        float,
        Field(ge=0, allow_inf_nan=False, description="how long requests are still accepted after a signal, seconds"),
    ] = 5.0
    read_timeout_seconds: Annotated[
        float,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="longest time that a client may take over a request, seconds",
        ),
    ] = 10.0
    api_keys: Annotated[
        SecretStr | None,
        Field(description="API keys, separated by commas; a request needs one; without keys, everyone has access"),
    ] = None
    api_keys_file: Annotated[
        FilePath | None,
        Field(description="file with more API keys, one a line; lines that begin with # are comments"),
    ] = None
    cors_origins: Annotated[
        tuple[str, ...],
        NoDecode,
        BeforeValidator(_origins),
        Field(description="origins whose pages may call the service from a browser, separated by commas; * for all"),
    ] = ()
    log_format: Annotated[Literal["json", "text"], Field(description="format of the log lines on stderr")] = "json"

    def keys(self) -> list[str]:
        """Return the keys of the variable and of the file, which is read at every call.

        Raises: ValueError, which quotes no key.
        """
        keys = _split(self.api_keys.get_secret_value()) if self.api_keys else []
        if self.api_keys_file:
            try:
                lines = [line.strip() for line in self.api_keys_file.read_text("utf-8-sig").splitlines()]
            except OSError as error:
                raise ValueError(f"{variable('api_keys_file')} cannot be read: {error.strerror}") from None
            except UnicodeDecodeError:
                raise ValueError(f"{variable('api_keys_file')} cannot be read as text; save it as UTF-8") from None
            keys += [line for line in lines if line and not line.startswith("#")]
        if not keys and (self.api_keys is not None or self.api_keys_file is not None):
            raise ValueError(f"{variable('api_keys')} and its file hold no key; unset both to give everyone access")
        if any(map(_is_quoted, keys)):
            raise ValueError("an API key stands in quotes, which would be part of it; leave them out")
        if not all(re.fullmatch(r"[!-~]+", key) for key in keys):
            raise ValueError("an API key must consist of visible ASCII characters, without spaces")
        return keys

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        self.keys()
        return self

    @model_validator(mode="before")
    @classmethod
    def _read_variables(cls, values: dict[str, Any]) -> dict[str, Any]:  # pydantic's own signature
        """Refuse misspelt and quoted variables, and leave out those that are empty or meant for somebody else."""
        variables = [*(variable(name) for name in cls.model_fields), KEY_VARIABLE]
        injected = injected_variables(os.environ)
        for name in os.environ:
            if name.upper().startswith(PREFIX) and name.upper() not in variables and name not in injected:
                nearest = difflib.get_close_matches(name.upper(), variables, n=1, cutoff=0.0)[0]
                raise ValueError(f"{name} is not a setting of this service; the nearest is {nearest}")
        foreign = {name.upper() for name in injected}
        texts = {name: value.strip() for name, value in values.items() if isinstance(value, str)}
        texts = {name: value for name, value in texts.items() if not _is_left_out(name, value, foreign)}
        for name, value in texts.items():
            if _is_quoted(value):
                quoted = f"{variable(name)} stands in quotes, which would be part of its value"
                raise ValueError(f"{quoted}; leave them out")
        return {name: value for name, value in values.items() if not isinstance(value, str)} | texts


def _is_quoted(value: str) -> bool:
    return re.fullmatch(r"(['\"]).*\1", value, re.DOTALL) is not None


def _is_left_out(field: str, value: str, injected: Collection[str]) -> bool:
    """Tell whether a variable's value means the default. `injected`: names of variables, in upper case."""
    is_injected = variable(field) in injected and _is_url(value)
    return is_injected or (not value.strip() and field not in KEEPS_EMPTY)


def injected_variables(environ: Mapping[str, str]) -> list[str]:
    """Name the variables that Kubernetes injects for Services called `halfdepth` or `halfdepth-...`."""
    return [
        name
        for name, value in environ.items()
        if KUBERNETES.fullmatch(name.upper()) or (KUBERNETES_PORT.fullmatch(name.upper()) and _is_url(value))
    ]


def _is_url(value: str) -> bool:
    return re.match(r"[a-z]+://", value) is not None


def variable(field: str) -> str:
    return PREFIX + field.upper()


def explain(error: ValidationError) -> str:
    """Name every wrong variable in one line, without its value, which may be a secret."""
    messages: dict[str, list[str]] = {}
    for part in error.errors(include_url=False, include_input=False):
        name = variable(str(part["loc"][0])) if part["loc"] else ""
        messages.setdefault(name, []).append(part["msg"].removeprefix("Value error, "))
    return "; ".join(f"{name}: {' or '.join(texts)}" if name else texts[0] for name, texts in messages.items())


def help_text() -> str:
    """List the variables with units and defaults, for `--help`."""
    lines = (
        f"  {variable(name):<33}{field.description} (default: {field.default or 'none'})"
        for name, field in Settings.model_fields.items()
    )
    return "environment variables:\n" + "\n".join(lines)
