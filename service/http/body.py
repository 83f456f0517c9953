"""Reads a request's body: checks its media type and its length, inflates, parses and validates it."""

import json
import re
import zlib
from codecs import BOM_UTF8
from collections.abc import Collection, Sequence
from typing import Any, NoReturn, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema, from_json
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from service.engine.errors import InvalidField, InvalidRequestError
from service.errors import BodyTooLargeError, MalformedJsonError, UnsupportedMediaTypeError, invalid_request

DEADLINE = r"(?=.*[1-9])[0-9]{1,9}(\.[0-9]{1,6})?"
MAX_INPUTS = "max_inputs"  # in the context of a validation
GZIP_WITH_HEADER = 16 + zlib.MAX_WBITS
MAX_GZIP_MEMBERS = 100  # each costs some microseconds, and takes 20 bytes; clients send one


class AtMostInputs:
    """Bounds a list by HALFDEPTH_MAX_INPUTS, before any of its items is looked at.

    The bound is a setting, which a type cannot hold: validation reads it from its context, and the OpenAPI document
    replaces MARK by it.
    """

    MARK = "x-at-most-inputs"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # any annotation
        return core_schema.with_info_before_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema) | {self.MARK: True}

    @staticmethod
    def _check(value: object, info: ValidationInfo) -> object:
        limit = (info.context or {}).get(MAX_INPUTS)
        if limit is not None and isinstance(value, list) and len(value) > limit:
            raise PydanticCustomError(
                "too_many_inputs",
                "holds {count} items where the limit is {limit}; split the request",
                {"count": len(value), "limit": limit},
            )
        return value


class RequestModel(BaseModel):
    """Is strict, and closed: a misspelt field is an error. In an optional field, null is the same as leaving it out."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, content: object) -> object:
        if not isinstance(content, dict) or None not in content.values():
            return content
        fields = cls.model_fields
        return {
            name: value
            for name, value in content.items()
            if value is not None or name not in fields or fields[name].is_required()
        }

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Document optional fields as nullable."""
        reference = handler(core_schema)
        schema = handler.resolve_ref_schema(reference)
        required = schema.get("required", ())
        for name, field in schema.get("properties", {}).items():
            if name not in required:
                _allow_null(field)
        return reference


def _allow_null(field: dict[str, Any]) -> None:  # a part of a JSON schema
    null = {"type": "null"}
    if null in field.get("anyOf", ()):
        return
    outside = ("title", "description", "default")
    value = {key: field.pop(key) for key in list(field) if key not in outside}
    field["anyOf"] = [*(value["anyOf"] if list(value) == ["anyOf"] else [value]), null]


def one_or_several(one: Any, several: Any, *, field: str | None = None) -> WrapValidator:  # any two annotations
    """Validate a value as one of two types, chosen beforehand: pydantic's unions add their members' names to a path.

    A list is validated as `several`; with `field`, an object that has this field is. Null is the same as leaving out a
    field that only the other type has.
    """
    adapters: tuple[TypeAdapter[object], TypeAdapter[object]] = (TypeAdapter(one), TypeAdapter(several))
    of_one, of_several = _fields_of(one), _fields_of(several)

    def validate_one(value: object, _: ValidatorFunctionWrapHandler, info: ValidationInfo) -> object:
        if field is None or not isinstance(value, dict):
            is_several = field is None and isinstance(value, list)
        else:
            is_several = value.get(field) is not None
            value = _without_nulls(value, of_one - of_several if is_several else of_several - of_one)
        return adapters[is_several].validate_python(value, strict=True, context=info.context)

    return WrapValidator(validate_one)


def _fields_of(kind: Any) -> set[str]:  # an annotation, of models or a union of them
    parts = [_fields_of(part) for part in get_args(kind)]
    return set(getattr(kind, "model_fields", ())).union(*parts)


def _without_nulls(content: dict[str, Any], fields: Collection[str]) -> dict[str, Any]:  # as JSON has it
    return {name: value for name, value in content.items() if value is not None or name not in fields}


async def read_body(
    headers: Sequence[tuple[bytes, bytes]], receive: Receive, limit: int, *, also: Collection[bytes] = ()
) -> bytes | bytearray:
    """Read the whole body, and inflate it if it is gzip. The limit holds for what is sent and for what is inflated.

    `also`: media types that are read beside JSON; the empty one is none at all.

    Raises: UnsupportedMediaTypeError, BodyTooLargeError, MalformedJsonError, ClientDisconnect.
    """
    fields = dict(headers)
    media_type = fields.get(b"content-type", b"")
    if media_type != b"application/json":
        kind = media_type.partition(b";")[0].strip().lower()
        if (
            kind not in also
            and kind != b"application/json"
            and not (kind.startswith(b"application/") and kind.endswith(b"+json"))
        ):
            raise UnsupportedMediaTypeError("send JSON, declared as such: the header Content-Type: application/json")
    gzip = Gzip(limit) if b"content-encoding" in fields and _is_gzip(headers) else None
    declared = fields.get(b"content-length", b"")
    if not declared:
        _check_chunks(headers)
    if declared.isdigit() and int(declared[:20]) > limit:  # Python reads no more than 4,300 digits
        raise _too_large(limit)
    body = bytearray()
    received = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        received += len(part)
        if received > limit:  # a chunked body declares no length
            raise _too_large(limit)
        if gzip is None:
            body += part
        else:
            gzip.feed(part)
        if not message.get("more_body", False):
            return body if gzip is None else gzip.finish()


def _is_gzip(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Read Content-Encoding, which may name several codings, in several headers (RFC 9110, 8.4).

    Raises: UnsupportedMediaTypeError for all but one gzip, or none.
    """
    value = b",".join([value for name, value in headers if name == b"content-encoding"])
    codings = [coding.strip().lower() for coding in value.split(b",")]
    codings = [coding for coding in codings if coding not in (b"", b"identity")]
    if not codings:
        return False
    if codings in ([b"gzip"], [b"x-gzip"]):  # RFC 9110, 8.4.1.3: one means the other
        return True
    raise UnsupportedMediaTypeError(
        "the body's Content-Encoding cannot be read; send it as it is, or as gzip", accepted_encodings="gzip, identity"
    )


def _check_chunks(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuse a body whose chunks are coded as well (RFC 9112, 7): the parser leaves them as they are.

    Raises: UnsupportedMediaTypeError.
    """
    codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    if codings not in ([], [b"chunked"]):
        raise UnsupportedMediaTypeError(
            "the body's Transfer-Encoding cannot be read; send chunked alone, and gzip as Content-Encoding"
        )


class Gzip:
    """Inflates a body step by step, so that a bomb is refused before it takes more memory than the limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inflater = zlib.decompressobj(GZIP_WITH_HEADER)
        self._members = 1
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        """Raises: BodyTooLargeError, MalformedJsonError."""
        while data:
            if self._inflater.eof:  # another member follows (RFC 1952, 2.2), or padding
                data = data.lstrip(b"\0")
                if not data:
                    return
                self._inflater = zlib.decompressobj(GZIP_WITH_HEADER)
                self._members += 1
            if self._members > MAX_GZIP_MEMBERS:
                raise MalformedJsonError(f"the body has over {MAX_GZIP_MEMBERS} members of gzip; compress it as one")
            try:
                self._body += self._inflater.decompress(data, self._limit + 1 - len(self._body))
            except zlib.error:
                raise _not_gzip() from None
            if len(self._body) > self._limit:
                raise _too_large(self._limit)
            data = self._inflater.unused_data or self._inflater.unconsumed_tail

    def finish(self) -> bytearray:
        """Return the whole body. Raises: MalformedJsonError."""
        if not self._inflater.eof:
            raise _not_gzip()
        return self._body


def _not_gzip() -> MalformedJsonError:
    return MalformedJsonError("the body is not gzip, or not whole; check it, or leave Content-Encoding out")


async def wait_until_gone(receive: Receive) -> None:
    """Wait until the caller closes the connection, or has the answer. For use once the body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is over the limit of {limit} bytes; send less, or fewer inputs at once")


def deadline(header: bytes | None, received: int) -> int | None:
    """Convert X-Deadline-Ms, milliseconds from the receipt of the request, to a point on its clock.

    Raises: InvalidRequestError.
    """
    if header is None:
        return None
    if not re.fullmatch(DEADLINE, header.decode("latin-1").strip(" \t")):
        message = "must be milliseconds from now, above 0 and below 1,000,000,000, such as 250"
        raise InvalidRequestError(
            f"X-Deadline-Ms: {message}", errors=[InvalidField(field="X-Deadline-Ms", message=message)]
        )
    return received + int(float(header) * 1e6)


def parse_json(body: bytes | bytearray) -> object:
    """Parse UTF-8 alone, behind a byte order mark or not; if a key is repeated, its last value counts.

    Raises: MalformedJsonError, also where Python gives up: too deep a nesting, integers of more than 4,300 digits.
    """
    body = body.removeprefix(BOM_UTF8)  # as RFC 8259, 8.1 allows
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError:
        return _parse_lone_surrogates(body)


def _parse_lone_surrogates(body: bytes | bytearray) -> object:
    """Parse JSON with a lone surrogate, which pydantic's parser refuses, so that validation can name its field.

    Raises: MalformedJsonError.
    """
    try:
        return json.loads(body.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise MalformedJsonError("the body is not JSON in UTF-8; check its syntax and encoding") from None


def validate(adapter: TypeAdapter[Any], content: object, max_inputs: int) -> Any:  # what the adapter is for
    """Raises: InvalidRequestError that names each wrong field."""
    try:
        return adapter.validate_python(content, context={MAX_INPUTS: max_inputs})
    except ValidationError as error:
        raise invalid_request(error) from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)  # NaN and Infinity are not JSON
