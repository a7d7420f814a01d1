"""Draws: the values that the steps of a walk choose from; few, so that budgets are often tight."""

AGENTS = ("researcher", "researcher", "writer", "ghost")
KINDS = ("day,month,total", "day,month,total", "hour,day,week,month,total", "month,day")
CENTS = ("0", "1", "1000000", "2000000", "2500000", "4000000", "7000000", "12000000")
# So large that two of them come near the cap of a counter.
HUGE = "5000000000000000"
KEY_DIGESTS = ("", "", "d1", "d1", "d2", "d3")
KEY_RECORDS = (
    "k1|active||*",
    "k1|active||*",
    "k2|active|0|researcher,writer",
    "k3|active|2142504060000|*",
    "k1|active||*",
    "k1|revoked||*",
    "not a record",
)
DIGESTS = ("", "", "", "", "", "", "i1", "i2", "i3")
LIMITS = ("none", "5", "10", "10", "20", "40", "1000", "9000000000", "2.5")
BAD = ("", "nan", "1e3", "-1", " 5 ", "0x10", "5,000", "5.", "9007199254.740992")
ZONES = ("UTC", "Asia/Tokyo", "Pacific/Honolulu", "Europe/Berlin", "America/Santiago")
SCOPES = ("org", "agent.*", "agent.writer", "agent.researcher")
WINDOWS = ("total", "month", "week", "day", "hour")
TICKS_MS = (1, 1, 400, 1_000, 3_000, 7_003, 7_003, 30_011, 61_007, 241_013, 900_017, 46_800_023)
LONG_TICKS_MS = (90_000_029, 172_800_031, 2_678_400_037)
BACK_MS = (3, 900, 30_011, 290_017)
TTLS_MS = ("0", "0", "0", "1000", "61000", "90000000")
# Settings beside the limits, and the values of each.
SETTINGS = {
    "mode": ("hard", "soft", "shadow", "soft", "Hard"),
    "warn_at": ("0.1", "0.5", "1", "0.9999", "0", "x"),
    "override_cents": ("30", "15", "oops"),
    "override_until": ("2142547200", "2142504060", "2142590400", "0", "soon"),
}
RULES = {
    "rpm": ("3", "0.5", "0", "60", "none", "x"),
    "concurrency": ("1", "2", "2", "2.5", "none", "many"),
    "per_call_cents": ("7", "7", "4", "none", "-1"),
}
ORG_WIDE = {
    "status": ("active", "active", "active", "frozen", "off"),
    "timezone": (*ZONES, "Mars/Base", "Europe"),
    "on_expiry": ("charge", "release", "keep"),
    "hold_ttl_ms": ("1000", "120000", "0", "99999999"),
    "agent.writer.status": ("active", "frozen", "gone"),
    "agent.*.status": ("active", "frozen"),
    "org.mnth.limit_cents": ("5",),
}
ARGUMENTS = {
    "agent": ("", "a b", "a|b"),
    "amount_microcents": ("-1", "01", "1.5", "nan", "9007199254740992", ""),
    "ttl_ms": ("-1", "1000000000000000", "x"),
    "epoch": ("", "1-2"),
    "zone": ("", "UTC\n"),
    "body_digest": ("b-1",),
    "windows": ("", "day 1"),
    "scope": ("", "team.a", "agent."),
    "target_microcents": ("-1", "01", "9007199254740992"),
    "reserved_ms": ("", "-5"),
    "key_id": ("k|1",),
    "owner": ("", "proxy|"),
}
META = (("billing_status", "frozen"), ("billing_status", "ok"), ("schema", ""), ("schema", "1"))
FIRST_RULES = (
    (),
    (),
    ("concurrency",),
    ("concurrency", "concurrency"),
    ("per_call_cents",),
    ("per_call_cents", "rpm"),
)
FIRST_LIMITS = ("40", "20", "1000", "none", "9000000000")
