"""Whether PagerDuty can work with these settings: what `eventbus integrations doctor` looks at. Pages nobody.

The Events API tells nothing of an integration key: it takes any of the right form and drops what belongs to nobody.
Only an event shows whether the key is right: `eventbus integrations drill`.
"""

from __future__ import annotations

from integrations import findings
from integrations.base import Finding
from integrations.errors import IntegrationError
from integrations.pagerduty.client import Client, Service
from integrations.pagerduty.config import PagerDutyConfig

KEYS = "Integrations > API Access Keys"
SUBSCRIPTION = "Integrations > Generic Webhooks (v3)"


async def examine(client: Client, config: PagerDutyConfig) -> list[Finding]:
    """All findings. Where an API does not answer, nothing else is asked of it."""
    found = [findings.webhook_secret(config.webhook_secret, "webhook_secret", SUBSCRIPTION), _routing_key(config)]
    try:
        headers = await client.reach()
    except IntegrationError as error:
        return [*found, findings.failed("events API", error, "check region and base_url")]
    found += [Finding("events API", "ok", "it answers"), findings.clock(headers, "PagerDuty")]
    if config.api_token is None:
        fix = f"make one under {KEYS}, for api_token; a drill then also shows that the incident is there"
        return [*found, Finding("credentials", "warn", "there is no api_token: nothing more can be looked at", fix)]
    try:
        count = await client.abilities()
    except IntegrationError as error:
        return [*found, findings.failed("credentials", error, f"make a new key under {KEYS}, and check region")]
    found.append(Finding("credentials", "ok", f"the token is good for {count} abilities"))
    return [*found, *await _incidents(client, config)]


def _routing_key(config: PagerDutyConfig) -> Finding:
    """Its form is checked with the settings. Events API v2 Overview: a ruleset's begins with R, and "change events
    cannot be sent to" it."""
    if config.routing_key.get_secret_value().startswith("R"):
        fix = "use the Integration Key of a service's Events API v2 integration, if changes are to be told"
        return Finding("routing_key", "warn", "it is a ruleset's: change events are left out", fix)
    return Finding("routing_key", "ok", "of the right form, and for change events too; whose it is, a drill shows")


async def _incidents(client: Client, config: PagerDutyConfig) -> list[Finding]:
    """Who makes incidents, on which service, and whether anybody is told of them."""
    found = []
    try:
        if config.from_email:
            found.append(await _maker(client, config.from_email))
        if config.service or config.service_id:
            found += await _service(client, config)
    except IntegrationError as error:
        found.append(findings.failed("incidents", error, "correct service or service_id; see what the token may do"))
    return found


async def _maker(client: Client, email: str) -> Finding:
    """REST API, "Incident Creation API": From is the e-mail of a user of the account."""
    if await client.is_user(email):
        return Finding("from_email", "ok", "a user has it")
    return Finding("from_email", "fail", "no user has it: incidents are refused", "set the address of a PagerDuty user")


async def _service(client: Client, config: PagerDutyConfig) -> list[Finding]:
    if config.service_id:
        service = await client.get_service(config.service_id)
    else:
        service = await client.find_service(config.service or "")
    return [Finding("service", "ok", service.name), await _on_call(client, service)]


async def _on_call(client: Client, service: Service) -> Finding:
    user = await client.on_call(service.escalation_policy_id)
    if user is None:
        fix = "assign a schedule or a person to a level of the service's escalation policy"
        return Finding("on call", "fail", f"nobody is on call for {service.name}: incidents reach nobody", fix)
    return Finding("on call", "ok", f"{user.name}, for {service.name}")
