/** The system's own health: this gateway, and all of them together. */

import { useEffect, useState, type ReactNode } from "react";
import { short } from "./format";
import { Empty, Panel, Skeleton } from "./parts";

interface Stats {
  connections: number;
  max_connections: number;
  channels: number;
  messages_received_total: number;
  bytes_sent_total: number;
  slow_clients: number;
  unsettled_channels: number;
  draining: boolean;
}

interface Row {
  name: string;
  concurrent: number;
  subscribes: number;
  messages: number;
  bytes: number;
  median_seconds: number | null;
}

interface Analytics {
  pods: number;
  kinds: Row[];
  top: Row[];
}

const EVERY_MS = 3_000;

function usePolled<T>(path: string): { value: T | undefined; failed: boolean } {
  const [state, setState] = useState<{ value: T | undefined; failed: boolean }>({ value: undefined, failed: false });
  useEffect(() => {
    const ended = new AbortController();
    const ask = async (): Promise<void> => {
      if (document.hidden) return;
      try {
        const answer = await fetch(path, { signal: ended.signal });
        if (!answer.ok) throw new Error(answer.statusText);
        setState({ value: (await answer.json()) as T, failed: false });
      } catch {
        if (!ended.signal.aborted) setState(({ value }) => ({ value, failed: true }));
      }
    };
    void ask();
    const timer = setInterval(() => void ask(), EVERY_MS);
    return () => {
      clearInterval(timer);
      ended.abort();
    };
  }, [path]);
  return state;
}

export function System({ rate, delay }: { rate: number; delay: number | undefined }): ReactNode {
  const stats = usePolled<Stats>("api/v1/ws/stats");
  const analytics = usePolled<Analytics>("api/v1/analytics?top=10");
  if (stats.value === undefined) {
    return stats.failed ? <Empty>The gateway does not tell its figures here.</Empty> : <Skeleton rows={6} />;
  }
  const { value } = stats;
  const figures: [string, string][] = [
    ["gateways", short(analytics.value?.pods ?? 1)],
    ["clients here", `${short(value.connections)} of ${short(value.max_connections)}`],
    ["channels here", short(value.channels)],
    ["slow clients", short(value.slow_clients)],
    ["channels in doubt", short(value.unsettled_channels)],
    ["events a second in this page", rate.toFixed(1)],
    ["from published to this page", delay === undefined ? "-" : `${Math.max(0, Math.round(delay))} ms`],
    ["bytes sent", short(value.bytes_sent_total)],
  ];
  return (
    <div className="grid gap-4">
      <Panel title="Gateway">
        {stats.failed && <p role="alert">These figures are old: the gateway does not answer.</p>}
        {value.draining && <p role="alert">This gateway is going away; its clients are being moved.</p>}
        <dl className="grid grid-cols-2 gap-4 sm:grid-cols-4">
          {figures.map(([name, figure]) => (
            <div key={name}>
              <dt className="text-sm text-slate-600 dark:text-slate-300">{name}</dt>
              <dd className="text-xl font-semibold tabular-nums">{figure}</dd>
            </div>
          ))}
        </dl>
      </Panel>
      {analytics.value !== undefined && (
        <Panel title="Channels, all gateways">
          <div className="overflow-x-auto" tabIndex={0} role="group" aria-label="Table of channels">
            <table className="w-full text-left text-sm tabular-nums">
              <thead>
                <tr>
                  {["channel", "now", "joined", "messages", "bytes", "median stay"].map((name) => (
                    <th key={name} scope="col" className="py-1 pr-4">
                      {name}
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {[...analytics.value.kinds, ...analytics.value.top.filter(({ name }) => name.includes(":"))].map((row) => (
                  <tr key={row.name}>
                    <th scope="row" className="py-1 pr-4 font-medium">
                      {row.name}
                    </th>
                    <td className="pr-4">{short(row.concurrent)}</td>
                    <td className="pr-4">{short(row.subscribes)}</td>
                    <td className="pr-4">{short(row.messages)}</td>
                    <td className="pr-4">{short(row.bytes)}</td>
                    <td>{row.median_seconds === null ? "-" : `${short(row.median_seconds)} s`}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </Panel>
      )}
    </div>
  );
}
