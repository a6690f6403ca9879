/** How long to wait before the next attempt: exponential with full jitter, quick at first and patient afterwards. */

const FIRST_MS = 500;
const LONGEST_MS = 30_000;
const SLOW_MS = 60_000;

/** Attempts after which the server is taken to be away for longer. */
export const QUICK_ATTEMPTS = 10;

/**
 * Return the wait in milliseconds before attempt number `attempt` (from 0).
 *
 * Full jitter, so that thousands of browsers which lost the same gateway do not come back in step.
 */
export function backoff(attempt: number, random: () => number): number {
  if (attempt >= QUICK_ATTEMPTS) return SLOW_MS * (0.5 + random() / 2);
  return random() * Math.min(LONGEST_MS, FIRST_MS * 2 ** attempt);
}
