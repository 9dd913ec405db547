# SPDX-License-Identifier: Apache-2.0
"""Round-trip time estimation and exponential backoff (RFC 6298, with a sub-second floor as in RFC 9002)."""

from __future__ import annotations

from dataclasses import dataclass, replace

INITIAL_TIMEOUT = 0.5
MIN_TIMEOUT = 0.02
MAX_TIMEOUT = 5.0
CHALLENGE_MAX = 60.0  # an unanswered candidate is challenged at least this often, for ever


@dataclass(frozen=True, slots=True)
class Rtt:
    """Smoothed RTT and its variation in seconds; None before the first sample."""

    smoothed: float | None = None
    variation: float = 0.0

    def with_sample(self, sample: float) -> Rtt:
        """The estimate after one more sample in seconds; negative samples are ignored."""
        if sample < 0:
            return self
        if self.smoothed is None:
            return Rtt(sample, sample / 2)
        variation = 0.75 * self.variation + 0.25 * abs(self.smoothed - sample)
        return replace(self, smoothed=0.875 * self.smoothed + 0.125 * sample, variation=variation)

    def timeout(self, attempt: int = 0, ceiling: float = MAX_TIMEOUT) -> float:
        """Seconds until the next retransmission; ``attempt`` counts those already made and doubles it each time."""
        base = INITIAL_TIMEOUT if self.smoothed is None else self.smoothed + 4 * self.variation
        return min(max(base, MIN_TIMEOUT) * 2.0 ** min(attempt, 16), ceiling)

    def guess(self) -> float:
        """The RTT to assume now, in seconds."""
        return INITIAL_TIMEOUT if self.smoothed is None else self.smoothed
