"""PutMetricData over HTTPS: one request per call, never repeated here, and what each answer means.

CloudWatch says with 400 what others say with 429 or 403; the code in the answer tells, not the status.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta

from integrations.cloudwatch.config import CloudWatchConfig
from integrations.cloudwatch.credentials import Signer
from integrations.cloudwatch.render import probe
from integrations.errors import AuthFailed, NotReady, RateLimited
from integrations.http import Answer, Http, check

SERVICE = "CloudWatch"
TIMEOUT = timedelta(seconds=10)
WAIT = timedelta(seconds=1)
"""After throttling: no answer of CloudWatch names a time, and its quotas are per second."""
JSON_1_0 = {
    "Content-Type": "application/x-amz-json-1.0",
    "X-Amz-Target": "GraniteServiceVersion20100801.PutMetricData",
}
"""AWS JSON 1.0 with the service model's targetPrefix."""

THROTTLED = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "LimitExceeded",
        "LimitExceededException",
        "BandwidthLimitExceeded",
        "SlowDown",
        "PriorRequestNotComplete",
    }
)
"""botocore/retries/standard.py, ThrottledRetryableChecker, and CloudWatch's own LimitExceeded."""

_CLOCK = "set this machine's clock by a time server: a signature is good for 5 minutes"
_ENDED = "the credentials have ended: renew session_token, or use a profile or role that renews itself"
_WRONG = "check access_key_id and secret_access_key, or whether the key was disabled"
_RIGHT = "allow the action cloudwatch:PutMetricData, for this namespace, to whose credentials these are"
AUTH = {
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    "RequestInTheFuture": _CLOCK,
    "SignatureDoesNotMatch": f"{_WRONG}; or {_CLOCK}",
    "InvalidSignatureException": f"{_WRONG}; or {_CLOCK}",
    "IncompleteSignature": f"something on the way changes requests, or {_WRONG}",
    "IncompleteSignatureException": f"something on the way changes requests, or {_WRONG}",
    "ExpiredToken": _ENDED,
    "ExpiredTokenException": _ENDED,
    "InvalidClientTokenId": f"{_WRONG}; temporary credentials need session_token",
    "UnrecognizedClientException": f"{_WRONG}; temporary credentials need session_token",
    "InvalidAccessKeyId": _WRONG,
    "MissingAuthenticationToken": _WRONG,
    "MissingAuthenticationTokenException": _WRONG,
    "AccessDenied": _RIGHT,
    "AccessDeniedException": _RIGHT,
    "NotAuthorized": _RIGHT,
    "UnauthorizedOperation": _RIGHT,
    "OptInRequired": "subscribe the account to CloudWatch, or enable the region",
}
"""CloudWatch API Reference, Common Errors, in the spellings of its protocols, and what to do."""
EMPTY = frozenset(
    {
        "MissingParameter",
        "MissingRequiredParameterException",
        "InvalidParameterValue",
        "InvalidParameterValueException",
        "InvalidParameterCombination",
        "InvalidParameterCombinationException",
        "ValidationError",
        "ValidationException",
    }
)
"""What it may say of a request without data: the errors of PutMetricData and the common one, in both spellings."""
LATER = frozenset({"RequestTimeout", "RequestTimeoutException", "RequestAbortedException"})


@dataclass(frozen=True, slots=True)
class Fault:
    """What an answer says is wrong: `ThrottlingException`, and in words."""

    code: str
    said: str


class Client:
    """One account in one region."""

    def __init__(self, config: CloudWatchConfig, http: Http, signer: Signer) -> None:
        self._url = config.url + "/"
        self._probe = probe(config)
        self._http = http
        self._signer = signer

    async def put(self, content: bytes) -> str:
        """Hand data over; the id of the request. 200 says that it was accepted."""
        answer = await self._post(content)
        _judge(answer)
        return answer.headers.get("x-amzn-requestid", "")

    async def ask(self) -> Answer:
        """Whether our credentials are good for PutMetricData, by one that puts nothing. Raises AuthFailed."""
        answer = await self._post(self._probe)
        if answer.status != 400 or fault_of(answer).code not in EMPTY:  # else: known, entitled, and empty
            _judge(answer)
        return answer

    async def _post(self, content: bytes) -> Answer:
        headers = await self._signer.headers(self._url, JSON_1_0, content)
        return await self._http.request("POST", self._url, headers=headers, content=content, timeout=TIMEOUT)


def fault_of(answer: Answer) -> Fault:
    """AWS JSON 1.0, "Operation error serialization": `__type` holds a shape's name, perhaps after a namespace and `#`;
    `x-amzn-query-error`, "code;fault", has the code of the older protocol."""
    try:
        body = json.loads(answer.body)
    except ValueError:
        body = {}
    body = body if isinstance(body, dict) else {}
    given = str(body.get("__type") or answer.headers.get("x-amzn-errortype") or "")
    code = given.rpartition("#")[2].partition(":")[0] or answer.headers.get("x-amzn-query-error", "").partition(";")[0]
    return Fault(code, answer.excerpt())


def _judge(answer: Answer) -> None:
    """Raise what an answer means that is no 200."""
    if 200 <= answer.status < 300:
        return
    fault = fault_of(answer)
    said = f"{SERVICE} answered {answer.status} {fault.code}".rstrip() + (f": {fault.said}" if fault.said else "")
    if fault.code in THROTTLED:
        raise RateLimited(said, retry_after=answer.retry_after() or WAIT)
    if fault.code in AUTH:
        raise AuthFailed(f"{said}; {AUTH[fault.code]}")
    if fault.code in LATER:
        raise NotReady(said)
    check(answer, SERVICE)
