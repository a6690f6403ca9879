/** All stories as a list that stays fast however long it gets; searched and filtered as one types. */

import { useVirtualizer } from "@tanstack/react-virtual";
import { useMemo, useRef, useState, type ReactNode } from "react";
import { verdict } from "./charts";
import { ago, moment, short } from "./format";
import { Empty, Panel, Skeleton } from "./parts";
import type { StoryState } from "./store";

const ROW = 68; // pixels
type Filter = "all" | "supported" | "doubtful";

export function Stories({ stories, loaded, now }: { stories: readonly StoryState[]; loaded: boolean; now: number }): ReactNode {
  const [search, setSearch] = useState("");
  const [filter, setFilter] = useState<Filter>("all");
  const found = useMemo(() => select(stories, search, filter), [stories, search, filter]);
  const scroller = useRef<HTMLDivElement>(null);
  const rows = useVirtualizer({
    count: found.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW,
    getItemKey: (at) => found[at]?.story.id ?? at,
    overscan: 6,
  });
  return (
    <Panel title="Stories" count={found.length}>
      <div className="mb-2 flex flex-wrap gap-2">
        <input
          type="search"
          aria-label="Search stories"
          placeholder="Search"
          value={search}
          onChange={({ target }) => setSearch(target.value)}
          className="min-w-0 grow rounded border border-slate-400 bg-transparent px-2 py-1"
        />
        <select
          aria-label="Filter by trust"
          value={filter}
          onChange={({ target }) => setFilter(target.value as Filter)}
          className="rounded border border-slate-400 bg-white px-2 py-1 dark:bg-slate-900"
        >
          <option value="all">all</option>
          <option value="supported">well supported</option>
          <option value="doubtful">doubtful</option>
        </select>
      </div>
      {!loaded && <Skeleton rows={6} />}
      {loaded && found.length === 0 && (
        <Empty>{stories.length === 0 ? "No story yet: one needs two reports." : "No story fits the search."}</Empty>
      )}
      <div ref={scroller} className="h-[60vh] overflow-y-auto" tabIndex={0} role="group" aria-label="Stories, newest first">
        <ul className="relative" style={{ height: rows.getTotalSize() }}>
          {rows.getVirtualItems().map(({ key, index, start }) => {
            const one = found[index];
            return one === undefined ? null : (
              <li
                key={key}
                className="absolute inset-x-0"
                style={{ transform: `translateY(${start}px)`, height: ROW }}
                data-testid="story"
              >
                <Row one={one} now={now} />
              </li>
            );
          })}
        </ul>
      </div>
    </Panel>
  );
}

function Row({ one: { story, score }, now }: { one: StoryState; now: number }): ReactNode {
  const { word, tone } = verdict(score?.trust_score);
  return (
    <a
      href={`#/story/${story.id}`}
      className="flex h-full items-center gap-3 rounded px-1 hover:bg-slate-100 dark:hover:bg-slate-800"
    >
      <span className={`w-10 shrink-0 text-center text-lg font-semibold tabular-nums ${tone}`} title={word}>
        {score === undefined ? "·" : Math.round(score.trust_score)}
        <span className="sr-only">, {word}</span>
      </span>
      <span className="min-w-0">
        <span className="block truncate font-medium">{story.title}</span>
        <span className="block truncate text-sm text-slate-600 dark:text-slate-300">
          {short(story.item_count)} reports by {short(story.sources?.length ?? 0)} sources ·{" "}
          <time dateTime={story.last_seen} title={moment(story.last_seen)}>
            {ago(story.last_seen, now)}
          </time>
          {story.simulated === true && " · simulated"}
        </span>
      </span>
    </a>
  );
}

/** Return the stories that fit, newest first. */
export function select(stories: readonly StoryState[], search: string, filter: Filter): readonly StoryState[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return stories.filter(({ story, score }) => {
    const text = `${story.title} ${(story.sources ?? []).join(" ")}`.toLowerCase();
    if (!words.every((word) => text.includes(word))) return false;
    if (filter === "all") return true;
    return score !== undefined && (filter === "supported" ? score.trust_score >= 65 : score.trust_score < 45);
  });
}
