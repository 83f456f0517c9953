"""Asks a running service, with a key if it needs one, and reports errors in the service's own words."""

import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, responses
from typing import Any

from models.tasks.errors import InputError, first_line
from models.tasks.remote.address import PREFIX, service_url

KEY_VARIABLE = f"{PREFIX}CLIENT_KEY"  # no misspelling of HALFDEPTH_API_KEYS, which the service would have to refuse
KEY_HELP = f"a key of the service; {KEY_VARIABLE} by default, which other users of the machine cannot see"
TIMEOUT_S = 600  # without a byte
LONGEST = 200  # of what is shown of a body in an unknown form, bytes


class ClientError(InputError):
    """A service cannot be asked, or refuses; the text is one line, in the service's own words if there are any."""


def client_key(option: str | None) -> str | None:
    """Take the key of a command line, or the environment's. Raises: ClientError, which quotes no key."""
    key = (option or os.environ.get(KEY_VARIABLE, "")).strip()
    if not all("!" <= character <= "~" for character in key):
        raise ClientError("the API key has characters that no key has; give it by --api-key or " + KEY_VARIABLE)
    return key or None


def key_headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"authorization": f"Bearer {key}"}


@dataclass(frozen=True, slots=True)
class Client:
    """Asks the service at `url`, which has no slash at its end."""

    url: str
    key: str | None = None

    @classmethod
    def of(cls, url: str, key: str | None) -> "Client":
        """Make one of what stands on a command line. Raises: UsageError, ClientError."""
        return cls(service_url(url), client_key(key))

    def get(self, path: str) -> Any:  # whatever JSON is there
        """Raises: ClientError."""
        return self._ask(path, None, key_headers(self.key))

    def post(self, path: str, content: object) -> Any:  # as above
        """Raises: ClientError."""
        headers = {"content-type": "application/json"} | key_headers(self.key)
        return self._ask(path, json.dumps(content).encode(), headers)

    def _ask(self, path: str, body: bytes | None, headers: dict[str, str]) -> Any:  # as above
        request = urllib.request.Request(self.url + path, body, headers)  # noqa: S310 - service_url lets http alone pass
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310 - as above
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                raise ClientError(f"{request.full_url}: {refusal(error.code, error.read())}") from error
        except urllib.error.URLError as error:
            raise unreachable(self.url, error.reason) from error
        except (OSError, HTTPException) as error:
            raise unreachable(self.url, error) from error
        except ValueError as error:
            raise ClientError(f"{request.full_url} does not answer in JSON; is it the service?") from error


def unreachable(url: str, reason: object) -> ClientError:
    text = first_line(reason) if isinstance(reason, Exception) else reason
    return ClientError(f"{url}: {text}; start the service with `make serve`")


def refusal(status: int, body: bytes) -> str:
    """Find the sentence of an error, in whichever form it has; else the beginning of what came, or its name."""
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    text = "" if body.lstrip().startswith(b"<") else body[:LONGEST].decode(errors="replace")
    sentence = _sentence(content) or text or responses.get(status, "without a word")
    if status == HTTPStatus.UNAUTHORIZED:
        sentence += f"; --api-key and {KEY_VARIABLE} send one"
    return f"{status}: {' '.join(sentence.split())}"


def _sentence(content: object) -> str:
    """Read a problem (RFC 9457), Hugging Face's form, or OpenAI's."""
    if not isinstance(content, dict):
        return ""
    error = content.get("error")
    nested = error.get("message") if isinstance(error, dict) else error
    return next((text for text in (content.get("detail"), nested) if isinstance(text, str)), "")
