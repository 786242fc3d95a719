"""How the console writes digests, coefficients and states."""

import json
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from registry.models import Component, Job, JobState, Probe
from steernode.canonical import format_decimal
from steernode.durations import say_duration, say_time_left
from steernode.records.evidence import Estimate, read_estimate
from steernode.snapshot.conditions import describe_condition
from steernode.snapshot.records import STATED

register = template.Library()

# State -> tone. What is not here is neutral.
TONES = {
    "approved": "good", "succeeded": "good", "pass": "good", "on": "good", "ACK": "good", "SYNCED": "good", "approve": "good",
    "submitted": "wait", "queued": "wait", "running": "wait", "BEHIND": "wait", "PENDING": "wait", "STALE": "wait",
    "medium": "wait", "lift requested": "wait", "undecidable": "wait", "asked": "wait", "ended": "bad", "withdrawn": "bad",
    "rejected": "bad", "failed": "bad", "fail": "bad", "killed": "bad", "NACK": "bad", "NACKED": "bad", "SILENT": "bad", "reject": "bad",
    "MISMATCH": "bad", "cannot serve": "wait",
    "high": "bad", "in force": "bad",
    "invalidated": "bad", "new": "wait", "request_changes": "wait", "waiting": "wait", "met": "good", "unmet": "bad",
}  # fmt: skip


@register.filter
def digest(value: str | None) -> SafeString | str:
    """The first twelve digits, with all of them in the title."""
    if not value:
        return "—"
    return format_html('<code class="sh-digest" title="{}">{}</code>', value, str(value)[:12])


@register.filter
def state(value: str | None) -> SafeString | str:
    """A badge in the colour of the state. The word itself is always there, so colour is never the only sign."""
    if not value:
        return "—"
    return format_html('<span class="sh-badge sh-{}">{}</span>', TONES.get(str(value), "quiet"), value)


@register.filter
def moment(value: datetime | None) -> SafeString | str:
    """A time to the minute in UTC, like everywhere in the console, with the second in the title."""
    if value is None:
        return "—"
    exact = value.astimezone(UTC)
    return format_html(
        '<time class="sh-time" datetime="{}" title="{} UTC">{}</time>', exact.isoformat(), f"{exact:%F %T}", f"{exact:%F %H:%M}"
    )


@register.filter
def time_left(job: Job) -> str:
    """What a job that is not finished waits for, or how long it will take."""
    if job.is_finished:
        return ""
    if job.cancel_requested_at is not None:
        return "asked to stop"
    if job.state == JobState.QUEUED:
        return "waiting for a worker"
    if job.is_left_alone:
        return "nobody works on it; another attempt follows" if job.attempt < job.max_attempts else "its last attempt was lost"
    return "longer than expected" if job.is_late else say_time_left(job.seconds_left)


@register.filter
def share_done(job: Job) -> str:
    """How much of the whole job is done, over all its stages and attempts."""
    return f"{100 * job.progress_done // job.progress_total} % done" if job.progress_total else ""


@register.filter
def took(job: Job) -> str:
    """How long the last attempt of a finished job was."""
    if job.started_at is None or job.finished_at is None:
        return ""
    return say_duration(round((job.finished_at - job.started_at).total_seconds()))


@register.filter
def speed(job: Job) -> str:
    return f"{job.tokens_per_second:.4g} tokens/s" if job.state == JobState.RUNNING and job.tokens_per_second else ""


@register.filter
def notices(job: Job) -> str:
    """Their sentences."""
    return " ".join(f"{notice['sentence'][:1].upper()}{notice['sentence'][1:]}." for notice in job.notices)


@register.filter
def number(value: Any) -> str:
    """A decimal without trailing zeros."""
    try:
        return format_decimal(Decimal(str(value)))
    except (InvalidOperation, ValueError):
        return "—" if value in (None, "") else str(value)


@register.filter
def short(value: Any) -> str:
    """A measured number in at most four digits, for reading; the exact one belongs in a title."""
    try:
        return f"{Decimal(str(value)):.4g}"
    except (InvalidOperation, ValueError):
        return "—" if value in (None, "") else str(value)


@register.filter
def percent(value: Any) -> str:
    """A share, of 1, in hundredths."""
    try:
        # As a float, which writes no zeros at the end.
        return f"{float(100 * Decimal(str(value))):.3g} %"
    except (InvalidOperation, ValueError):
        return "—"


@register.filter
def share(estimate: Estimate | None) -> str:
    """A measured share with its interval, in hundredths, as it stands in a sentence."""
    if estimate is None:
        return "an unknown share"
    ends = "" if estimate.low is None else f" ({percent(estimate.low)} to {percent(estimate.high)})"
    return f"{percent(estimate.value)}{ends}"


@register.filter
def firing(probe: Probe) -> str:
    """How often a probe fires where it should, and where it should not."""
    hits, false_alarms = (read_estimate(probe.held_out.get(name)) for name in ("true_positive_rate", "false_positive_rate"))
    meant = f"of the intent {probe.intent}" if probe.intent else "labelled true"
    return f"It fires on {share(hits)} of the prompts {meant}, and on {share(false_alarms)} of the others."


# What a component does beside its operator. A field that is not here is shown by its name.
_HOW = {"bound": " at {}", "preserve_norm": ", norm preserved"}


@register.filter
def how(component: Component) -> str:
    """What a component does, in words: its operator, and whatever of it is not as most are."""
    said = str(component.operator)
    for each in STATED:
        value = getattr(component, each.name)
        if each.is_later and value != each.default:
            said += _HOW.get(each.name, f", {each.name.replace('_', ' ')} {{}}").format(number(value))
    return said


@register.filter
def arguments(value: dict[str, Any]) -> str:
    """What a chat template is given: `enable_thinking = false, date_string = "26 Jul 2024"`."""
    return ", ".join(f"{name} = {json.dumps(given, ensure_ascii=False)}" for name, given in value.items())


@register.filter
def schedule(value: dict[str, Any]) -> str:
    """A schedule in words."""
    words = {
        "constant": "for the whole reply",
        "linear": "falling to nothing over {tokens} tokens",
        "exponential": "halved every {half_life_tokens} tokens",
        "window": "from token {first_token} to {last_token}",
    }
    return words.get(value.get("kind", ""), "{kind}").format_map({"kind": "?", **value})


@register.filter
def condition(value: dict[str, Any] | None) -> str:
    """A condition in words."""
    return describe_condition(value)
