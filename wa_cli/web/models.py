"""What the bodies of requests and answers look like: the source of /openapi.json.

A field that a request does not know is an error: a misspelt `rate_limit_delay` must not send at another pace.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_DELAY_MS: Final = 86_400_000

ContentType = Literal[
    "text",
    "image",
    "video",
    "document",
    "audio",
    "voice",
    "sticker",
    "location",
    "contact",
    "poll",
    "reaction",
    "template",
    "buttons",
    "list",
]
Number = Annotated[str, Field(min_length=1, max_length=500)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Delay = Annotated[int, Field(ge=0, le=MAX_DELAY_MS)]
Timestamp = Annotated[str, Field(description="RFC 3339 in UTC")]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class HeaderPart(_Asked):
    """The header of a template."""

    kind: Literal["text", "image", "video", "document"]
    value: str = Field(description="The words, or the public https link of the file.")


class ButtonPart(_Asked):
    """The variable of one button of a template."""

    index: int = Field(ge=0, le=9)
    sub_type: Literal["url", "quick_reply", "copy_code"] = "url"
    value: str


class LocationPart(_Asked):
    """A place.  Degrees as numbers or as texts."""

    latitude: float | str
    longitude: float | str
    name: str | None = None
    address: str | None = None


class ContactPart(_Asked):
    """Somebody's card."""

    name: str
    phone: Number
    organization: str | None = None


class PollPart(_Asked):
    """A question with answers to tap; only transports of linked devices have it."""

    question: str
    options: list[str]
    max_answers: int = Field(default=1, ge=0, description="How many one person may give; 0: any number.")


class ReactionPart(_Asked):
    """An emoji on a message of the same chat."""

    to_message: Number = Field(description="One of our ids, such as m42, or the platform's own.")
    emoji: str = Field(description='"" takes it back.')


class ReplyPart(_Asked):
    """A button that a person taps to answer."""

    id: str
    title: str


class RowPart(_Asked):
    id: str
    title: str
    description: str | None = None


class SectionPart(_Asked):
    title: str | None = None
    rows: list[RowPart]


class ListPart(_Asked):
    """A list to choose from.  button: the label of what opens it."""

    button: str
    sections: list[SectionPart]


class Words(_Asked):
    """What a message says."""

    type: ContentType | None = Field(default=None, description="Found from the other fields unless given.")
    body: str | None = Field(default=None, description="The text.")
    message: str | None = Field(default=None, description="The same as body.")
    text: str | None = Field(default=None, description="The same as body.")
    media: str | None = Field(
        default=None, description="The public https link of a file, or a path below the server's WA_MEDIA_ROOTS."
    )
    caption: str | None = None
    filename: str | None = None
    template: str | None = Field(default=None, description="The name of an approved template.")
    language: str = "en_US"
    parameters: list[str] | dict[str, str] | None = Field(
        default=None, description="The values of a template's body, in order or by name."
    )
    header: HeaderPart | None = None
    buttons: list[ButtonPart] | None = Field(default=None, description="Of a template.")
    link_preview: bool = False
    location: LocationPart | None = None
    contact: ContactPart | None = None
    poll: PollPart | None = None
    reaction: ReactionPart | None = None
    reply_buttons: list[ReplyPart] | None = Field(default=None, description="Under the text, to tap.")
    menu: ListPart | None = Field(default=None, alias="list", description="Under the text, to choose from.")
    footer: str | None = Field(default=None, description="Small words under buttons or a list.")


class Options(_Asked):
    """When and how: the same for every call that sends."""

    send_at: Annotated[int, Field(ge=0)] | Annotated[str, Field(max_length=100)] | None = Field(
        default=None, description="Epoch seconds, or a time such as 2026-11-22T09:00 or 'tomorrow 9am'."
    )
    send_immediately: bool = Field(default=False, description="From now on; send_at is not looked at then.")
    rate_limit_delay: Delay | Literal["auto"] | None = Field(
        default=None, description="Milliseconds between two messages (2000), or 'auto' to pick by size."
    )
    immediate: bool = Field(
        default=False, description="Ahead of everything that waits; the limits of the account still hold."
    )
    instance: Name | None = Field(default=None, description="The instance that sends; the default one without.")
    again: bool = Field(default=False, description="Queue it although the same words went out or wait already.")
    max_attempts: Annotated[int, Field(ge=1, le=1000)] | None = None
    expires: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        default=None, description="A time, or a length of time after the start, such as 2h."
    )
    on_unknown: Literal["hold", "resend", "skip"] = "hold"
    dry_run: bool = Field(default=False, description="Say what would happen; write and send nothing.")


class SendToSubgroup(Words, Options):
    """Row R1: one message for every member of a subgroup."""


class Addressed(_Asked):
    phoneNumber: Number | None = Field(default=None, description="The number.")
    to: Number | None = Field(default=None, description="The same as phoneNumber.")
    recipient: Number | None = Field(default=None, description="The same as phoneNumber.")


class SendMessage(Addressed, Words, Options):
    """Rows S1, S3, T2: one message for one recipient."""


class BatchLine(Addressed):
    """One recipient and their own words."""

    message: str | None = Field(default=None, description="The text.")
    body: str | None = Field(default=None, description="The same as message.")
    text: str | None = Field(default=None, description="The same as message.")
    key: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(
        default=None, description="The Idempotency-Key of this line alone."
    )


class SendBatch(Options):
    """Rows S4, T3: many recipients, each with their own words."""

    messages: list[BatchLine] = Field(min_length=1)


class Resend(_Asked):
    """Row R8: everything that failed of one subgroup."""

    rate_limit_delay: Delay = Field(default=3000, description="Milliseconds between two messages.")
    force: bool = Field(default=False, description="Permanent errors too.")
    dry_run: bool = False


class ResendChosen(Resend):
    """Row R7: chosen ones, by their index in the list last printed, or by their id."""

    message_indices: list[Annotated[int, Field(ge=0, le=999_999_999)]] | None = None
    message_ids: list[Annotated[str, Field(pattern=r"^m[0-9]{1,18}$")]] | None = None


class Restart(_Asked):
    """Row H11: of the linked device behind an instance."""

    type: Literal["soft", "hard"] = Field(default="soft", description="soft: the gateway's own; hard: stop, start.")


class SendCampaign(Options):
    """Rows Q2, Q9: one message for the recipients of a campaign, in the words of the platform."""

    campaignId: int | Annotated[str, Field(min_length=1, max_length=200)]
    recipients: list[Number] = Field(min_length=1)
    messageType: Name = "text"
    payload: dict[str, Any] = Field(
        description="The message as the platform's API names it, under its type: {'text': {'body': '...'}}."
    )


# --- answers -------------------------------------------------------------------------------------------------------


class ErrorBody(BaseModel):
    code: str
    message: str
    hint: str | None
    exit: int | None = Field(default=None, description="What the command line would exit with.")


class ErrorAnswer(BaseModel):
    error: ErrorBody


class ReceivedAnswer(BaseModel):
    received: bool


class Line(BaseModel):
    """What became of one message.  outcome: immediate means that nothing is ahead of it and that it is due."""

    id: str
    recipient: str
    outcome: Literal["immediate", "queued", "duplicate", "skipped"]
    queue_position: int | None
    due_at: Timestamp | None
    state: str
    reason: str | None = None
    window: Literal["closed"] | None = Field(
        default=None, description="WhatsApp refuses free text to this person unless they write before it leaves."
    )


class Refusal(BaseModel):
    index: int
    text: str
    reason: str


class Preflight(BaseModel):
    """What was known of the groups of a call before anything was queued for them."""

    groups: int
    checked: int
    unreachable: int
    members: int | None
    in_several: int | None
    problem: str | None


class SendAnswer(BaseModel):
    success: bool
    message: str
    batch_id: str | None
    subgroup: str | None
    queued: int
    duplicates: int
    skipped: int
    skipped_by_reason: dict[str, int]
    closed_windows: int
    refused: int
    delay_ms: int
    rate_limit_delay: int
    dry_run: bool
    start_at: Timestamp
    messages: list[Line]
    refusals: list[Refusal]
    warnings: list[str]
    preflight: Preflight | None = None


class MessageAnswer(Line):
    success: bool
    message: str
    immediate: bool
    queued: bool
    duplicate: bool
    queuePosition: int | None
    batch_id: str | None
    warnings: list[str]
    preflight: Preflight | None = None


class CampaignAnswer(SendAnswer):
    campaignId: int | str
    merged: int = Field(description="Recipients that stood in the list more than once, in whatever spelling.")


class FailedMessage(BaseModel):
    """Row R6.  group_id: the chat, also for a person.  index: what a resend takes."""

    index: int
    id: str
    type: str | None
    group_id: str
    recipient: str
    group_name: str | None = None
    body: str | None
    send_at: str
    status: Literal["failed"]
    error_code: str | None
    error_details: str | None
    scheduled_time: str
    subgroup_id: str | None
    subgroup: str | None
    campaign: str | None
    attempts: int
    reason: str | None
    instance: str
    failed_at: Timestamp | None


class FailedAnswer(BaseModel):
    """count: of this page.  total: of the whole list.  next: what `after` takes for the next page."""

    failed_messages: list[FailedMessage]
    count: int
    total: int
    next: int | None


class ResentMessage(BaseModel):
    id: str
    due_at: Timestamp


class ResendRefusal(BaseModel):
    id: str
    reason: str


class ResendAnswer(BaseModel):
    success: bool
    message: str
    resend_count: int
    rate_limit_delay: int
    refused: list[ResendRefusal]
    batch_ids: list[str]
    messages: list[ResentMessage]
    dry_run: bool


class WorkerAnswer(BaseModel):
    """is_sending_elsewhere: a daemon or another call is at it, so this one had nothing to do."""

    success: bool
    message: str
    processed: int
    sent: int
    failed: int
    retrying: int
    unknown: int
    skipped: int
    remaining: int
    next_due_at: Timestamp | None
    is_sending_elsewhere: bool


class HealthMetrics(BaseModel):
    """cacheSize: entries of the caches in memory.  conversationStates: people who wrote within 24 h.
    rateLimitTracking: recipients who have to wait now."""

    queueLength: int
    cacheSize: int
    conversationStates: int
    rateLimitTracking: int


class HealthAnswer(BaseModel):
    """healthy: every instance may send, and somebody does it or nothing is due.  uptime: seconds."""

    healthy: bool
    metrics: HealthMetrics
    uptime: float
    state: str
    sender: str | None


class InstanceCounters(BaseModel):
    sent24h: int
    sent1h: int
    failures1h: int
    disconnects1h: int
    started1m: int


class RateWindow(BaseModel):
    limit: int | None
    used: int
    remaining: int | None


class RateWindows(BaseModel):
    perMinute: RateWindow
    perHour: RateWindow


class LimitEntry(BaseModel):
    """value: 0 when nothing limits.  used, left: of the messages in its window; null where they are not counted."""

    limit: str
    value: int
    origin: str
    used: int | None
    left: int | None


class Reconnection(BaseModel):
    isReconnecting: bool
    nextAttemptAt: Timestamp | None
    reason: str | None
    attempts: int
    restartsUsed: int
    restartsAllowed: int
    windowMinutes: int
    nextRestart: str | None
    nextRestartAt: Timestamp | None


class RestartAnswer(BaseModel):
    success: bool
    message: str
    instance: str
    type: str
    restartsLeft: int
    windowMinutes: int


class DeviceConnection(BaseModel):
    state: str
    since: Timestamp | None
    raw: str | None
    reason: str | None


class Holder(BaseModel):
    role: str
    pid: int
    host: str
    since: Timestamp


class RestrictionEntry(BaseModel):
    """scope: `new_people`, `outside_window` or `everything`.  until: null where no end was stated."""

    code: str
    reason: str
    scope: str
    until: Timestamp | None


class InstanceAnswer(BaseModel):
    instanceId: str
    name: str
    transport: str
    state: str
    reason: str | None
    waiting: int
    sending: int
    queueDepth: int
    next_due_at: Timestamp | None
    holder: Holder | None
    paused_at: Timestamp | None
    paused_by: str | None
    pause_code: str | None
    rests_until: Timestamp | None
    restriction: RestrictionEntry | None
    connection: DeviceConnection | None
    address: str | None
    counters: InstanceCounters
    rateLimits: RateWindows
    nextAllowedSendAt: Timestamp | None
    limits: list[LimitEntry]
    reconnection: Reconnection


class QueueStats(BaseModel):
    """How many messages stand where; each is in exactly one."""

    pending: int
    processing: int
    sent: int
    failed: int
    delivered: int
    read: int
    unknown: int
    skipped: int
    expired: int
    cancelled: int


class CampaignCounts(BaseModel):
    """How far a campaign has come, over all its runs.  sent: all that WhatsApp took, delivered and read ones too;
    delivered likewise.  total: people who were left out too; they are skipped or expired.  replied, optedOut, clicked:
    people who did so within a week of their message.  state: of a campaign from a file, else null."""

    id: int | str
    name: str
    state: str | None
    progress: int
    total: int
    pending: int
    sent: int
    delivered: int
    read: int
    failed: int
    unknown: int
    skipped: int
    expired: int
    cancelled: int
    failedCount: int
    replied: int
    optedOut: int
    clicked: int
    clickedCount: int


class QueueAnswer(BaseModel):
    stats: QueueStats
    avgSendRate: str
    campaign: CampaignCounts | None
    throttling: dict[str, int]
    deliveryFailures: dict[str, int]
    queue: dict[str, int]
