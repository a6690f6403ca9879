/** What every page is made of: panels, placeholders and words for nothing. */

import type { ReactNode } from "react";

export function Panel({ title, count, children }: { title: string; count?: number; children: ReactNode }): ReactNode {
  return (
    <section
      aria-label={title}
      className="rounded-xl border border-slate-200 bg-white p-4 shadow-sm dark:border-slate-700 dark:bg-slate-900"
    >
      <h2 className="mb-2 flex items-baseline gap-2 text-lg font-semibold">
        {title}
        {count !== undefined && count > 0 && (
          <span className="text-sm font-normal text-slate-600 dark:text-slate-300">{count}</span>
        )}
      </h2>
      {children}
    </section>
  );
}

export function Empty({ children }: { children: ReactNode }): ReactNode {
  return <p className="py-6 text-center text-slate-600 dark:text-slate-300">{children}</p>;
}

export function Skeleton({ rows }: { rows: number }): ReactNode {
  return (
    <div aria-busy="true" aria-label="Loading" role="status">
      {Array.from({ length: rows }, (_, row) => (
        <div
          key={row}
          className="my-3 h-6 animate-pulse rounded bg-slate-200 motion-reduce:animate-none dark:bg-slate-700"
        />
      ))}
    </div>
  );
}
