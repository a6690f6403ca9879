/** One story: how far it can be trusted and why, who reported it when, and how the score has moved. */

import { useEffect, useState, type ReactNode } from "react";
import { Gauge, Sparkline } from "./charts";
import { ago, moment, named, short, signed } from "./format";
import { Empty, Panel, Skeleton } from "./parts";
import { EMPTY, reduce, type Snapshot, type StoryState } from "./store";
import type { ServerEvent, Signal } from "../realtime/messages";

/** Return what is known of a story live, else what the gateway's history knows of it. */
export function useStory(id: string, live: Snapshot): StoryState | "loading" | "unknown" {
  const [past, setPast] = useState<{ id: string; state: StoryState | undefined }>();
  const known = live.stories.get(id);
  useEffect(() => {
    const ended = new AbortController();
    fetch(`api/v1/channels/story:${encodeURIComponent(id)}/history?limit=500`, { signal: ended.signal })
      .then(async (answer) => {
        const events = answer.ok ? ((await answer.json()) as { events: ServerEvent[] }).events : [];
        setPast({ id, state: reduce(EMPTY, events).stories.get(id) });
      })
      .catch(() => {
        if (!ended.signal.aborted) setPast({ id, state: undefined });
      });
    return () => ended.abort();
  }, [id]);
  const earlier = past?.id === id ? past.state : undefined;
  if (known === undefined) return past?.id === id ? (earlier ?? "unknown") : "loading";
  const since = known.scores[0]?.at ?? Infinity;
  const before = (earlier?.scores ?? []).filter(({ at }) => at < since);
  return { ...known, score: known.score ?? earlier?.score, scores: [...before, ...known.scores] };
}

export function StoryPage({ id, live, now }: { id: string; live: Snapshot; now: number }): ReactNode {
  const found = useStory(id, live);
  if (found === "loading") return <Skeleton rows={6} />;
  if (found === "unknown") {
    return <Empty>This story is not among those of the last day. It may have gone into another one.</Empty>;
  }
  const { story, score, scores } = found;
  return (
    <article className="grid gap-4 lg:grid-cols-2">
      <header className="lg:col-span-2">
        <h1 className="text-2xl font-semibold">{story.title}</h1>
        <p className="text-slate-600 dark:text-slate-300">
          {short(story.item_count)} reports by {short(story.sources?.length ?? 0)} sources, first{" "}
          <time dateTime={story.first_seen}>{moment(story.first_seen)}</time>, last{" "}
          <time dateTime={story.last_seen} title={moment(story.last_seen)}>
            {ago(story.last_seen, now)}
          </time>
        </p>
      </header>
      <Panel title="Trust">
        <div className="flex flex-wrap items-center gap-6">
          <Gauge score={score?.trust_score} />
          <div>
            <Sparkline values={scores.map((point) => point.score)} label={`Score over ${scores.length} updates`} />
            {score?.previous_score != null && (
              <p className="text-sm">moved by {signed(score.trust_score - score.previous_score)}</p>
            )}
            {score?.confidence != null && <p className="text-sm">confidence {Math.round(score.confidence * 100)} %</p>}
          </div>
        </div>
        <ul className="mt-3 space-y-3">{score?.signals.map((signal) => <Bar key={signal.name} signal={signal} />)}</ul>
      </Panel>
      <Panel title="Timeline">
        <ol className="space-y-2 border-l-2 border-slate-300 pl-4 dark:border-slate-600">
          {[...(story.items ?? [])].reverse().map((item) => (
            <li key={item.id}>
              <p className="text-sm text-slate-600 dark:text-slate-300">
                <time dateTime={item.published_at}>{moment(item.published_at)}</time> · {item.source}
              </p>
              {item.url == null ? (
                <p>{item.title}</p>
              ) : (
                <a href={item.url} rel="noreferrer noopener" target="_blank" className="underline">
                  {item.title}
                </a>
              )}
            </li>
          ))}
        </ol>
      </Panel>
      <Panel title="Sources" count={story.sources?.length ?? 0}>
        <p className="flex flex-wrap gap-2">
          {(story.sources ?? []).map((source) => (
            <span key={source} className="rounded bg-slate-200 px-2 py-0.5 text-sm dark:bg-slate-700">
              {source}
            </span>
          ))}
        </p>
      </Panel>
    </article>
  );
}

function Bar({ signal }: { signal: Signal }): ReactNode {
  const share = Math.min(50, Math.abs(signal.contribution) * 2);
  const left = signal.contribution < 0 ? 50 - share : 50;
  const colour = signal.contribution < 0 ? "bg-rose-600" : "bg-emerald-600";
  return (
    <li>
      <p className="flex justify-between text-sm font-medium">
        <span>{named(signal.name)}</span>
        <span className="tabular-nums">
          {signed(signal.contribution)} points
          {signal.change != null && signal.change !== 0 && ` (${signed(signal.change)} now)`}
        </span>
      </p>
      <div className="relative h-2 rounded bg-slate-200 dark:bg-slate-700" aria-hidden>
        <div className={`absolute h-2 rounded ${colour}`} style={{ left: `${left}%`, width: `${share}%` }} />
      </div>
      <p className="text-sm text-slate-600 dark:text-slate-300">{signal.explanation}</p>
    </li>
  );
}
