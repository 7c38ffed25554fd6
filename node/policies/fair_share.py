"""Run time shared among tenants by their weights, first in first out within each.

Start-time fair queueing (P. Goyal, H. Vin, H. Cheng, "Start-time Fair Queueing", SIGCOMM 1996) with run time for bytes:
each tenant has a virtual time, which grows by run time / weight, and the tenant with the least is next. Run time is not
known at the start, so the expected one is charged then and corrected at the end. Of tenants that have waiting tasks all
the time each gets run time in proportion to its weight, up to what is running.

A tenant that had nothing waiting does not come back with credit: it is put forward to where the tenant that was served
last is, not counting what that one has running. So it gets its share of the places at once, and no more.
"""

from collections.abc import Mapping
from typing import Final

from node.policies.order import Facts, Head, Rank

_SWEEP_TENANTS_MIN: Final = 1_024


class _Account:
    """What one tenant has used, as virtual milliseconds: run time divided by its weight."""

    __slots__ = ("lanes", "running", "running_virtual", "virtual", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.virtual = 0.0  # with what is charged for running tasks
        self.running_virtual = 0.0  # that part
        self.running = 0
        self.lanes = 0  # with waiting tasks

    @property
    def settled(self) -> float:
        return self.virtual - self.running_virtual


class FairShare:
    """Run time by weight. A tenant without an account has used nothing, or not more than all others."""

    name: str = "FAIR_SHARE"
    ordering: str = "order"
    slice_ms: int | None = None
    rank_is_static: bool = False

    def __init__(self, *, weights: Mapping[str, float]) -> None:
        """Weights above 0 by tenant; 1 for all others. Nobody has used anything yet."""
        assert all(weight > 0 for weight in weights.values())
        self._weights = weights
        self._accounts: dict[str, _Account] = {}
        self._served = _Account(1.0)  # who was served last
        self._sweep_at = _SWEEP_TENANTS_MIN

    def key(self, facts: Facts) -> int:
        """When it became ready."""
        return facts.order_ms

    def rank(self, head: Head) -> Rank:
        """By what its tenant has used, then as in FIFO."""
        account = self._accounts.get(head.tenant)
        return (account.virtual if account else self._floor(), head.key, head.number)

    def opened(self, tenant: str) -> None:
        """A tenant that had nothing waiting is put forward to where the others are."""
        account = self._account(tenant)
        if not account.lanes:
            account.virtual = max(account.virtual, self._floor())
        account.lanes += 1

    def closed(self, tenant: str) -> None:
        """One lane less that has waiting tasks."""
        account = self._accounts[tenant]
        assert account.lanes > 0
        account.lanes -= 1

    def started(self, tenant: str, charged_ms: int) -> None:
        """Charges the expected run time."""
        account = self._account(tenant)
        charge = charged_ms / account.weight
        account.virtual += charge
        account.running_virtual += charge
        account.running += 1
        self._served = account

    def settled(self, tenant: str, charged_ms: int, run_ms: int) -> None:
        """Puts the real run time in place of the expected one."""
        account = self._accounts[tenant]
        assert account.running > 0
        account.running -= 1
        account.virtual += (run_ms - charged_ms) / account.weight
        account.running_virtual -= charged_ms / account.weight
        if not account.running:
            account.running_virtual = 0.0  # rounding must not add up

    def _floor(self) -> float:
        return self._served.settled

    def _account(self, tenant: str) -> _Account:
        account = self._accounts.get(tenant)
        if account is None:
            if len(self._accounts) >= self._sweep_at:
                self._sweep()
            account = self._accounts[tenant] = _Account(self._weights.get(tenant, 1.0))
        return account

    def _sweep(self) -> None:
        """Forgets tenants that would be put forward when they come back, so that memory follows the active ones."""
        floor = self._floor()
        self._accounts = {
            tenant: account
            for tenant, account in self._accounts.items()
            if account.lanes or account.running or account.virtual > floor
        }
        self._sweep_at = max(_SWEEP_TENANTS_MIN, 2 * len(self._accounts))
