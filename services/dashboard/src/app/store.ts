/**
 * What the dashboard knows: newest state of each trend and story, and each story's scores. Bounded, and changed at most
 * once per frame, however many events come.
 */

import type { RealtimeClient } from "../realtime";
import { perFrame } from "../realtime/react";
import type { ServerEvent, Story, Trend, TrustScoreUpdate } from "../realtime/messages";

const MAX_TRENDS = 200;
const MAX_STORIES = 1_000;
const MAX_POINTS = 60;

export interface TrendState {
  readonly trend: Trend;
  /** Velocity over time, oldest first. */
  readonly velocities: readonly number[];
}

export interface ScorePoint {
  readonly at: number;
  readonly score: number;
}

export interface StoryState {
  readonly story: Story;
  readonly score: TrustScoreUpdate | undefined;
  readonly scores: readonly ScorePoint[];
}

export interface Snapshot {
  readonly trends: ReadonlyMap<string, TrendState>;
  readonly stories: ReadonlyMap<string, StoryState>;
  /** Scores of stories that have not come yet: each channel has an order, two have none between them. */
  readonly early: ReadonlyMap<string, readonly TrustScoreUpdate[]>;
  /** Events taken since the page was opened. */
  readonly events: number;
  /** Whether the gateway has answered the first subscriptions. */
  readonly loaded: boolean;
}

/** Nothing yet. */
export const EMPTY: Snapshot = { trends: new Map(), stories: new Map(), early: new Map(), events: 0, loaded: false };

/** Return `before` with `events` taken in. Pure. */
export function reduce(before: Snapshot, events: readonly ServerEvent[]): Snapshot {
  const trends = new Map(before.trends);
  const stories = new Map(before.stories);
  const early = new Map(before.early);
  for (const event of events) {
    if (event.type === "trend_update") takeTrend(trends, event.data);
    else if (event.type === "story_update") takeStory(stories, early, event.data);
    else if (event.type === "trust_score_update") takeScore(stories, early, event);
  }
  bound(trends, MAX_TRENDS);
  bound(stories, MAX_STORIES);
  bound(early, MAX_STORIES);
  return { trends, stories, early, events: before.events + events.length, loaded: true };
}

function takeTrend(trends: Map<string, TrendState>, trend: Trend): void {
  const known = trends.get(trend.id);
  trends.delete(trend.id); // the newest is last
  if (trend.phase === "ended") return;
  trends.set(trend.id, { trend, velocities: [...(known?.velocities ?? []), trend.velocity].slice(-MAX_POINTS) });
}

type Early = Map<string, readonly TrustScoreUpdate[]>;

function takeStory(stories: Map<string, StoryState>, early: Early, story: Story): void {
  const known = stories.get(story.id);
  stories.delete(story.id);
  if (story.merged_into != null) return;
  stories.set(story.id, { story, score: known?.score, scores: known?.scores ?? [] });
  for (const score of early.get(story.id) ?? []) takeScore(stories, early, score);
  early.delete(story.id);
}

function takeScore(stories: Map<string, StoryState>, early: Early, score: TrustScoreUpdate): void {
  const known = stories.get(score.story_id);
  if (known === undefined) {
    early.set(score.story_id, [...(early.get(score.story_id) ?? []), score].slice(-MAX_POINTS));
    return;
  }
  const at = score.timestamp === undefined ? Date.now() : Date.parse(score.timestamp);
  const scores = [...known.scores, { at, score: score.trust_score }].slice(-MAX_POINTS);
  stories.set(score.story_id, { ...known, score, scores });
}

function bound<V>(map: Map<string, V>, most: number): void {
  for (const key of map.keys()) {
    if (map.size <= most) return;
    map.delete(key);
  }
}

/** The dashboard's state on a connection; `start` begins to listen. */
export class Store {
  private snapshot = EMPTY;
  private readonly watchers = new Set<() => void>();

  readonly watch = (watcher: () => void): (() => void) => {
    this.watchers.add(watcher);
    return () => void this.watchers.delete(watcher);
  };

  readonly get = (): Snapshot => this.snapshot;

  /** Hear everything the dashboard shows, newest state first; returns what ends it. */
  start(client: RealtimeClient): () => void {
    const batch = perFrame((events) => this.set(reduce(this.snapshot, events)));
    const ends = ["stories", "trends", "trust_scores"].map((channel) =>
      client.subscribe(channel, batch.push, { snapshot: true }),
    );
    const end = client.watch(() => {
      if (client.status.state === "live" && !this.snapshot.loaded) this.set({ ...this.snapshot, loaded: true });
    });
    return () => {
      for (const one of [...ends, end]) one();
      batch.cancel();
    };
  }

  private set(snapshot: Snapshot): void {
    this.snapshot = snapshot;
    for (const watcher of [...this.watchers]) watcher();
  }
}
