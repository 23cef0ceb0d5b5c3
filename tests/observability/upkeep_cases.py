"""What tickets of gateways, teams and the machinery do: see `alert_cases`."""

from typing import Final

from tests.observability.rule_tests import (
    MODEL,
    NAMESPACE,
    Case,
    Series,
    gateway,
    of_gateway,
    ticket,
    turned,
)


def _streams(broken: int, left: int, complete: int) -> Series:
    counts = {"engine_cut": broken, "client_left": left, "complete": complete}
    found: dict[str, str] = {}
    for end, count in counts.items():
        found |= gateway("streams_total", f"0+{count}x60", model=MODEL, end=end)
    return found


def _outs(values: str) -> Series:
    return gateway("replica_outs_total", values, pool="h100", reason="ejections")


def _lag(fast: int) -> Series:
    found: dict[str, str] = {}
    for bound, count in {"0.01": fast, "0.1": 1000, "+Inf": 1000}.items():
        found |= gateway("loop_lag_seconds_bucket", f"0+{count}x30", ["gateway-0"], le=bound)
    return found


def _tokens(computed: int, charged: int) -> Series:
    labels = {"model": MODEL, "kind": "prompt"}
    return {
        **gateway("engine_tokens_total", f"0+{computed}x120", **labels),
        **gateway("tokens_total", f"0+{charged}x120", team="search", **labels),
    }


def _replaced(share: float) -> Series:
    """A rollout after 30 minutes, of 10,000 tokens a minute; two gateways charge that share."""
    labels = {"model": MODEL, "kind": "prompt"}
    each = int(10_000 * share / 2)
    found: dict[str, str] = {}
    for life, pods in ("{}x30 stale", ["old-0", "old-1"]), ("_x30 {}x60", ["new-0", "new-1"]):
        found |= gateway("engine_tokens_total", life.format("0+10000"), pods, **labels)
        found |= gateway("tokens_total", life.format(f"0+{each}"), pods, team="search", **labels)
    return found


def _quota(limit: int, used: int) -> Series:
    labels = {"team": "search", "limit": "day"}
    return {
        **gateway("quota_limit", f"{limit}x30", **labels),
        **gateway("quota_used", f"{used}x30", **labels),
    }


def _calls(late: float, of: float = 100) -> Series:
    """Calls of the quota store each minute."""
    return {
        **gateway("quota_store_seconds_count", f"0+{of}x30"),
        **gateway("quota_store_errors_total", f"0+{late}x30", kind="slow"),
        **gateway("quota_store_errors_total", "0x30", kind="failed"),
    }


_FIRST: Final = ["gateway-0"]
_AT_FIRST: Final = (ticket(**of_gateway(0)),)
CASES: Final = (
    Case("StreamsBroken", "2 of 50", _streams(2, 0, 48), "45m", (ticket(model=MODEL),)),
    Case("StreamsBroken", "clients leave", _streams(0, 30, 20), "45m"),
    Case("StreamsBroken", "few streams", _streams(1, 0, 0), "45m"),
    Case("RetriesRefused", "each minute", gateway("retries_refused_total", "0+1x30", pool="h100"),
         "20m", (ticket(pool="h100"),)),
    Case("RetriesRefused", "once", gateway("retries_refused_total", "0x5 9x30", pool="h100"),
         "9m"),
    Case("ReplicasFlapping", "each minute", _outs("0+1x30"), "20m",
         (ticket(pool="h100", reason="ejections"),)),
    Case("ReplicasFlapping", "twice, which each gateway counts", _outs("0x5 1x5 2x30"), "30m"),
    Case("QuotaStoreErrors", "one in twenty is late", _calls(5), "20m", (ticket(),)),
    Case("QuotaStoreErrors", "one in two hundred is late", _calls(0.5), "20m"),
    Case("QuotaStoreErrors", "few calls", _calls(0.05, 0.5), "20m"),
    Case("LedgerBehind", "20,000", gateway("ledger_pending", "20000x30", _FIRST), "10m", _AT_FIRST),
    Case("LedgerBehind", "9,000", gateway("ledger_pending", "9000x30"), "10m"),
    Case("SettlementsBehind", "2,000", gateway("settlements_pending", "2000x30", _FIRST), "15m",
         _AT_FIRST),
    Case("SettlementsBehind", "900", gateway("settlements_pending", "900x30"), "15m"),
    Case("JournalFailed", "is", gateway("journal_failed", "1x30", _FIRST), "10m", _AT_FIRST),
    Case("JournalFailed", "is not", gateway("journal_failed", "0x30"), "10m"),
    Case("SnapshotOld", "of one",
         {**gateway("snapshot_age_seconds", "180x30", _FIRST),
          **gateway("snapshot_age_seconds", "3x30", ["gateway-1"])}, "5m", _AT_FIRST),
    Case("SnapshotOld", "as ever", gateway("snapshot_age_seconds", "3x30"), "5m"),
    Case("LoopLag", "half of all", _lag(500), "20m", _AT_FIRST),
    Case("LoopLag", "nearly none", _lag(995), "20m"),
    Case("TokensUnaccounted", "a fifth", _tokens(10_000, 4_000), "100m",
         (ticket(kind="prompt"),)),
    Case("TokensUnaccounted", "all charged", _tokens(10_000, 4_990), "100m"),
    Case("TokensUnaccounted", "few tokens", _tokens(100, 10), "100m"),
    Case("TokensUnaccounted", "all charged, by gateways that were replaced", _replaced(1.0), "50m"),
    Case("TokensUnaccounted", "half charged, by gateways that were replaced", _replaced(0.5), "50m",
         (ticket(kind="prompt"),)),
    Case("TeamsUnnamed", "three", gateway("teams_unnamed", "3x30"), "20m", (ticket(),)),
    Case("TeamsUnnamed", "none", gateway("teams_unnamed", "0x30"), "20m"),
    Case("TeamQuotaNearlyUsed", "95%", _quota(1000, 950), "15m",
         ({"severity": "team", "namespace": NAMESPACE, "team": "search", "limit": "day"},)),
    Case("TeamQuotaNearlyUsed", "80%", _quota(1000, 800), "15m"),
    Case("TeamQuotaNearlyUsed", "a limit of 0", _quota(0, 5), "15m"),
    Case("Watchdog", "always", {}, "1m", ({"severity": "none"},)),
)  # fmt: skip


def _answered(gone: tuple[int, int], ok: int) -> Series:
    labels = {"route": "chat", "model": MODEL, "team": "search"}
    return {
        **gateway("requests_total", turned(*gone), status="499", outcome="client_gone", **labels),
        **gateway("requests_total", turned(ok, ok), status="200", outcome="ok", **labels),
    }


LONG: Final = (
    Case("ClientsLeaveJump", "from 2% to 23%", _answered((2, 30), 100), "26h",
         (ticket(model=MODEL),)),
    Case("ClientsLeaveJump", "as yesterday", _answered((30, 30), 100), "26h"),
    Case("ClientsLeaveJump", "few requests", _answered((0, 1), 2), "26h"),
)  # fmt: skip
"""Of a day and two hours: a sample each five minutes."""
