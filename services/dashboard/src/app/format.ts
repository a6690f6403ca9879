/** Numbers and times as people read them. Pure. */

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const absolute = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

const UNITS: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
  ["second", 1],
];

/** "3 minutes ago", of an ISO time. */
export function ago(iso: string, now: number): string {
  const seconds = Math.round((Date.parse(iso) - now) / 1_000);
  for (const [unit, size] of UNITS) {
    if (Math.abs(seconds) >= size) return relative.format(Math.trunc(seconds / size), unit);
  }
  return "now";
}

export const moment = (iso: string): string => absolute.format(new Date(iso));
export const short = (value: number): string => compact.format(value);
export const signed = (value: number): string => `${value > 0 ? "+" : value < 0 ? "−" : "±"}${short(Math.abs(value))}`;
export const named = (name: string): string => name.replaceAll("_", " ");
