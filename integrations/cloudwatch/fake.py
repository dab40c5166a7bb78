"""CloudWatch on a real port: PutMetricData in AWS JSON 1.0, with its signatures, quotas and rules for data.

The rules are quoted from the CloudWatch API Reference (PutMetricData, MetricDatum, Dimension, Common Errors) and from
"Signature Version 4" of the IAM User Guide, which is worked out here without the library that signs.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from integrations.testing.fake import FakeService

# fmt: off
UNITS = (
    "Seconds", "Microseconds", "Milliseconds", "Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes",
    "Bits", "Kilobits", "Megabits", "Gigabits", "Terabits", "Percent", "Count",
    "Bytes/Second", "Kilobytes/Second", "Megabytes/Second", "Gigabytes/Second", "Terabytes/Second",
    "Bits/Second", "Kilobits/Second", "Megabits/Second", "Gigabits/Second", "Terabits/Second", "Count/Second", "None",
)
# fmt: on
"""MetricDatum, Unit: "Valid Values"."""
TARGET = "GraniteServiceVersion20100801.PutMetricData"
SHAPES = "com.amazonaws.cloudwatch.v2010_08_01#"
SKEW_SECONDS = 300
"""Signature Version 4: "In most cases, a request must reach AWS within five minutes of the time stamp"."""
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<scope>[^,]+), ?SignedHeaders=(?P<names>[^,]+), ?"
    r"Signature=(?P<signature>[0-9a-f]{64})"
)


class FakeCloudWatch(FakeService):
    """`data` is every datum that was put. `per_second` is the quota, 500 for a new account."""

    region = "eu-central-1"
    access_key_id = "AKIAIOSFODNN7EXAMPLE"
    secret_access_key = "canary-cloudwatch-secret-access-key-0123"  # noqa: S105  # it guards nothing
    per_second = 500

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.data: list[dict[str, Any]] = []
        self._calls: deque[float] = deque()

    def routes(self) -> Sequence[BaseRoute]:
        """The one address of the protocol."""
        return [Route("/", self._answer, methods=["POST"])]

    def settings(self) -> dict[str, Any]:
        """An account that points here."""
        return {
            "region": self.region,
            "endpoint": self.url,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "max_per_second": self.per_second,
        }

    def effects(self) -> list[str]:
        """Every datum, in words."""
        return [_shown(one) for one in self.data]

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        if request.headers.get("x-amz-target") != TARGET:
            return _fault("UnknownOperationException", "")
        if request.headers.get("content-type") != "application/x-amz-json-1.0":
            return _fault("SerializationException", "")
        refused = self._signature_fault(request, body)
        if refused:
            return _fault(*refused)
        if not self._has_room():
            # "400 ThrottlingException", Rate exceeded (re:Post, "Why do I receive the error 400 ThrottlingException").
            return _fault("ThrottlingException", "Rate exceeded")
        if len(body) > 1_000_000:
            # "Each PutMetricData request is limited to 1 MB in size for HTTP POST requests."
            return _fault("RequestEntityTooLargeException", "Request size exceeded", 413)
        try:
            asked = json.loads(body, parse_constant=lambda name: float(name.replace("Infinity", "inf")))
        except ValueError:
            return _fault("SerializationException", "")
        if not asked.get("MetricData"):
            return _fault("MissingRequiredParameterException", "The parameter MetricData is required.")
        fault = next(check(asked), "")
        if fault:
            return _fault("InvalidParameterValueException", fault)
        self.data += [{"Namespace": asked["Namespace"], **one} for one in asked["MetricData"]]
        return Response(status_code=200, headers={"x-amzn-requestid": f"request-{len(self.requests) + 1}"})

    def _has_room(self) -> bool:
        now = time.monotonic()
        while self._calls and self._calls[0] <= now - 1:
            self._calls.popleft()
        if len(self._calls) >= self.per_second:
            return False
        self._calls.append(now)
        return True

    # -- Signature Version 4 ---------------------------------------------------------------------------------------

    def _signature_fault(self, request: Request, body: bytes) -> tuple[str, str] | None:
        """What is wrong with a request's signature: code and words."""
        found = AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
        stamp = request.headers.get("x-amz-date", "")
        if found is None or not re.fullmatch(r"\d{8}T\d{6}Z", stamp):
            return "MissingAuthenticationTokenException", "Missing Authentication Token"
        if self.reject_credentials or found["key"] != self.access_key_id:
            return "UnrecognizedClientException", "The security token included in the request is invalid."
        signed_at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        if abs(time.time() - signed_at) > SKEW_SECONDS:
            return "InvalidSignatureException", f"Signature expired: {stamp} is now earlier than allowed"
        if found["scope"] != f"{stamp[:8]}/{self.region}/monitoring/aws4_request":
            return "InvalidSignatureException", f"Credential should be scoped to a valid region: {found['scope']}"
        names = found["names"].split(";")
        # "You must include the host header" and "any x-amz-* headers in the request".
        needed = {"host", *(name for name in request.headers if name.startswith("x-amz-"))}
        if not needed <= set(names) or not hmac.compare_digest(
            found["signature"], self._signature(request, body, names, stamp, found["scope"])
        ):
            return (
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided.",
            )
        return None

    def _signature(self, request: Request, body: bytes, names: Sequence[str], stamp: str, scope: str) -> str:
        """ "Create a signed AWS API request": canonical request, string to sign, derived key."""
        headers = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in names)
        hashed = hashlib.sha256(body).hexdigest()
        canonical = "\n".join([request.method, request.url.path, "", headers, ";".join(names), hashed])
        to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = f"AWS4{self.secret_access_key}".encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()


def check(asked: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the data, in the order it is found."""
    namespace = asked.get("Namespace", "")
    # "pattern [^:].*", 1 to 255; "you should not specify a namespace that begins with AWS/"
    if not 1 <= len(namespace) <= 255 or namespace.startswith((":", "AWS/")):
        yield f"The value {namespace} for parameter Namespace is invalid."
    if len(asked["MetricData"]) > 1000:
        yield "The collection MetricData must not have a size greater than 1000."
    for number, one in enumerate(asked["MetricData"], 1):
        yield from (f"MetricData.member.{number}.{fault}" for fault in _check_datum(one))


def _check_datum(one: dict[str, Any]) -> Iterator[str]:
    if not _is_ascii(one.get("MetricName", ""), 255):
        yield "MetricName is required, 1 to 255 characters"
    value = one.get("Value")
    # "special values (for example, NaN, +Infinity, -Infinity) are not supported"; "in the range of -2^360 to 2^360"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        yield f"Value {value} is no finite number"
    elif abs(value) > 2.0**360:
        yield "Value must be in the range of -2^360 to 2^360"
    if one.get("Unit", "None") not in UNITS:
        yield f"Unit {one['Unit']} is none of the valid values"
    if one.get("StorageResolution", 60) not in (1, 60):
        yield "StorageResolution: Valid values are 1 and 60"
    ahead = one.get("Timestamp", time.time()) - time.time()
    # "as much as two weeks before the current date, and as much as 2 hours after the current day and time"
    if not -14 * 86_400 <= ahead <= 7200:
        yield "Timestamp must specify a time no more than two weeks in the past and 2 hours in the future"
    dimensions = one.get("Dimensions", [])
    if len(dimensions) > 30 or len({each["Name"] for each in dimensions}) < len(dimensions):
        yield "Dimensions: no more than 30, each once"
    for each in dimensions:
        if not _is_ascii(each["Name"], 255) or each["Name"].startswith(":"):
            yield f"Dimensions: the name {each['Name']!r}"
        if not _is_ascii(each["Value"], 1024):
            yield f"Dimensions: the value {each['Value']!r}"


def _is_ascii(text: str, most: int) -> bool:
    """Dimension: "must contain only ASCII characters, must include at least one non-whitespace character"; "ASCII
    control characters are not supported"."""
    return 1 <= len(text) <= most and all(" " <= one <= "~" for one in text) and bool(text.strip())


def _fault(code: str, words: str, status: int = 400) -> Response:
    """AWS JSON 1.0, "Operation error serialization"; the header is for clients of the older protocol."""
    headers = {"x-amzn-query-error": f"{code.removesuffix('Exception')};Sender"}
    return JSONResponse({"__type": SHAPES + code, "message": words}, status, headers=headers)


def _shown(one: dict[str, Any]) -> str:
    dimensions = ",".join(f"{each['Name']}={each['Value']}" for each in one["Dimensions"])
    return (
        f"{one['Namespace']} {one['MetricName']}{{{dimensions}}} {one['Value']:g} {one['Unit']} at {one['Timestamp']}"
    )
