/** Small pictures in plain SVG: a sparkline and a gauge. They say their value in words, too. */

import type { ReactNode } from "react";

/** A line through `values`, oldest first. */
export function Sparkline({ values, label }: { values: readonly number[]; label: string }): ReactNode {
  const points = values.length > 1 ? values : [values[0] ?? 0, values[0] ?? 0];
  const top = Math.max(...points, 1e-9);
  const step = 96 / (points.length - 1);
  const path = points.map((value, at) => `${(2 + at * step).toFixed(1)},${(26 - (24 * value) / top).toFixed(1)}`);
  return (
    <svg viewBox="0 0 100 28" className="h-7 w-24 shrink-0" role="img" aria-label={label}>
      <polyline points={path.join(" ")} fill="none" stroke="currentColor" strokeWidth="2" strokeLinejoin="round" />
    </svg>
  );
}

/** The colour of a score: words, not hues alone, say what it means. */
export function verdict(score: number | undefined): { word: string; tone: string } {
  if (score === undefined) return { word: "not scored yet", tone: "text-slate-600 dark:text-slate-300" };
  if (score >= 65) return { word: "well supported", tone: "text-emerald-700 dark:text-emerald-300" };
  if (score >= 45) return { word: "open", tone: "text-amber-800 dark:text-amber-300" };
  return { word: "doubtful", tone: "text-rose-700 dark:text-rose-300" };
}

/** Half a circle that fills with the score, 0 to 100. */
export function Gauge({ score }: { score: number | undefined }): ReactNode {
  const { word, tone } = verdict(score);
  const length = Math.PI * 40;
  const label = score === undefined ? "Trust: not scored yet" : `Trust ${Math.round(score)} of 100, ${word}`;
  return (
    <figure className={`w-40 ${tone}`} role="img" aria-label={label}>
      <svg viewBox="0 0 100 56" aria-hidden>
        <path d="M10 50 A40 40 0 0 1 90 50" fill="none" stroke="currentColor" strokeOpacity="0.2" strokeWidth="10" />
        <path
          d="M10 50 A40 40 0 0 1 90 50"
          fill="none"
          stroke="currentColor"
          strokeWidth="10"
          strokeDasharray={`${(length * (score ?? 0)) / 100} ${length}`}
        />
        <text x="50" y="48" textAnchor="middle" fontSize="20" fill="currentColor">
          {score === undefined ? "?" : Math.round(score)}
        </text>
      </svg>
      <figcaption className="text-center text-sm">{word}</figcaption>
    </figure>
  );
}
