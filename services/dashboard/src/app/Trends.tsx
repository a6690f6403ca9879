/** What is talked about more than its past explains. */

import { Minus, TrendingDown, TrendingUp } from "lucide-react";
import type { ReactNode } from "react";
import { Sparkline } from "./charts";
import { ago, moment, short, signed } from "./format";
import { Empty, Panel, Skeleton } from "./parts";
import type { TrendState } from "./store";

export function Trends({ trends, loaded, now }: { trends: readonly TrendState[]; loaded: boolean; now: number }): ReactNode {
  return (
    <Panel title="Trends" count={trends.length}>
      {!loaded && <Skeleton rows={4} />}
      {loaded && trends.length === 0 && <Empty>Nothing is talked about more than usual right now.</Empty>}
      <ul className="divide-y divide-slate-200 dark:divide-slate-700">
        {trends.map(({ trend, velocities }) => (
          <li key={trend.id} className="flex items-center gap-3 py-2" data-testid="trend">
            <div className="min-w-0 grow">
              <p className="truncate font-medium">{trend.name}</p>
              <p className="text-sm text-slate-600 dark:text-slate-300">
                {short(trend.mention_count)} mentions, {short(trend.sources ?? 0)} sources ·{" "}
                <time dateTime={trend.last_seen} title={moment(trend.last_seen)}>
                  {ago(trend.last_seen, now)}
                </time>
                {Object.entries(trend.platforms ?? {}).map(([name, count]) => (
                  <span key={name}>
                    {" "}
                    · {name} {short(count)}
                  </span>
                ))}
              </p>
            </div>
            <Acceleration value={trend.acceleration} />
            <Sparkline values={velocities} label={`Velocity ${short(trend.velocity)} mentions an hour`} />
          </li>
        ))}
      </ul>
    </Panel>
  );
}

function Acceleration({ value }: { value: number }): ReactNode {
  const Icon = value > 0.05 ? TrendingUp : value < -0.05 ? TrendingDown : Minus;
  return (
    <span className="flex shrink-0 items-center gap-1 text-sm tabular-nums">
      <Icon className="h-4 w-4" aria-hidden />
      <span className="sr-only">acceleration</span>
      {signed(value)}
    </span>
  );
}
