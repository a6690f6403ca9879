import { expect, test } from "vitest";
import { select } from "../src/app/Stories";
import { ago, signed } from "../src/app/format";
import { EMPTY, reduce } from "../src/app/store";
import type { ServerEvent } from "../src/realtime/messages";

const TIME = "2026-03-01T12:00:00Z";

function story(id: string, more: object = {}): ServerEvent {
  const data = { id, title: `Story ${id}`, item_count: 2, first_seen: TIME, last_seen: TIME, sources: ["a.example"], ...more };
  return { type: "story_update", data } as ServerEvent;
}

function score(id: string, value: number): ServerEvent {
  return { type: "trust_score_update", story_id: id, trust_score: value, signals: [], timestamp: TIME } as ServerEvent;
}

test("the newest state of each thing is kept, newest last", () => {
  const after = reduce(EMPTY, [story("a"), story("b"), story("a", { item_count: 5 }), score("a", 70), score("zz", 1)]);
  expect([...after.stories.keys()]).toEqual(["b", "a"]);
  expect(after.stories.get("a")).toMatchObject({ story: { item_count: 5 }, score: { trust_score: 70 } });
  expect(after.stories.get("a")!.scores).toHaveLength(1);
  expect(after.events).toBe(5);
});

test("a score that comes before its story waits for it", () => {
  const before = reduce(EMPTY, [score("late", 70), score("never", 10)]);
  expect(before.stories.size).toBe(0);
  const after = reduce(before, [story("late")]);
  expect(after.stories.get("late")).toMatchObject({ score: { trust_score: 70 }, scores: [{ score: 70 }] });
  expect([...after.early.keys()]).toEqual(["never"]);
});

test("what has ended or gone into another is shown no longer", () => {
  const trend = { id: "t", name: "x", phase: "started", velocity: 1 };
  const before = reduce(EMPTY, [story("a"), { type: "trend_update", data: trend } as ServerEvent]);
  const after = reduce(before, [
    story("a", { merged_into: "b" }),
    { type: "trend_update", data: { ...trend, phase: "ended" } } as ServerEvent,
  ]);
  expect([after.stories.size, after.trends.size]).toEqual([0, 0]);
  expect(before.stories.size).toBe(1);
});

test("memory is bounded however many events come", () => {
  let snapshot = EMPTY;
  for (let round = 0; round < 30; round += 1) {
    snapshot = reduce(snapshot, Array.from({ length: 100 }, (_, at) => story(`${round}-${at}`)));
  }
  for (let round = 0; round < 200; round += 1) snapshot = reduce(snapshot, [score("29-99", round % 100)]);
  expect(snapshot.stories.size).toBe(1_000);
  expect(snapshot.stories.get("29-99")!.scores).toHaveLength(60);
});

test("stories are found by words and by trust", () => {
  const { stories } = reduce(EMPTY, [story("a", { title: "Dam leaks" }), story("b"), score("a", 80), score("b", 20)]);
  const all = [...stories.values()];
  expect(select(all, "dam LEAKS", "all")).toHaveLength(1);
  expect(select(all, "a.example", "doubtful").map(({ story }) => story.id)).toEqual(["b"]);
  expect(select(all, "", "supported").map(({ story }) => story.id)).toEqual(["a"]);
});

test("times and numbers read as people say them", () => {
  expect(ago(TIME, Date.parse(TIME) + 180_000)).toBe("3 minutes ago");
  expect(ago(TIME, Date.parse(TIME))).toBe("now");
  expect([signed(2), signed(-2), signed(0)]).toEqual(["+2", "−2", "±0"]);
});
