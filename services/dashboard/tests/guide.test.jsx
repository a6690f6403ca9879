/** The guide's own example, as it stands there, on the hooks of this package. */

import { act, cleanup, render, screen } from "@testing-library/react";
import { useState } from "react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import {
  ConnectionStatus,
  useSharedWebSocket,
  useStoryUpdates,
  useTrendUpdates,
  useTrustScoreUpdates,
  WebSocketProvider,
} from "../src/realtime";

let sockets = [];

class Socket {
  readyState = 1;
  sent = [];
  constructor() {
    sockets.push(this);
  }
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  close() {}
}

async function say(...messages) {
  await act(async () => {
    for (const message of messages) sockets.at(-1).onmessage?.({ data: JSON.stringify(message) });
    await new Promise((resolve) => requestAnimationFrame(resolve));
  });
}

let renders = 0;

function Dashboard() {
  const [trends, setTrends] = useState([]);
  const [stories, setStories] = useState([]);
  const [scores, setScores] = useState([]);
  renders += 1;

  // Each hook shares the same WebSocket connection
  useTrendUpdates((trend) => {
    setTrends((prev) => [...prev, trend]);
  });

  useStoryUpdates(undefined, (story) => {
    setStories((prev) => [...prev, story]);
  });

  useTrustScoreUpdates((update) => {
    setScores((prev) => [...prev, update]);
  });

  const { isConnected } = useSharedWebSocket();

  return (
    <div>
      <ConnectionStatus /> {/* Shows "Live" when connected */}
      <p>
        {isConnected ? "connected" : "not connected"}: {trends.length} trends, {stories.length} stories, {scores.length} scores
      </p>
    </div>
  );
}

beforeEach(() => {
  sockets = [];
  vi.stubGlobal("WebSocket", Socket);
});
afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

const welcome = { type: "connection", heartbeat: { interval: 30, timeout: 90 } };

test("the guide's dashboard shares one socket, shows Live, and a burst renders once", async () => {
  render(
    <WebSocketProvider url="ws://one">
      <Dashboard />
    </WebSocketProvider>,
  );
  expect(screen.getByRole("status").textContent).toBe("Offline");
  expect(sockets).toHaveLength(1);
  await say(welcome);
  expect(screen.getByRole("status").textContent).toBe("Live");
  expect(sockets[0].sent.map(({ channel }) => channel).sort()).toEqual(["stories", "trends", "trust_scores"]);
  const before = renders;
  await say(
    ...Array.from({ length: 200 }, (_, seq) => ({ type: "trend_update", channel: "trends", seq: seq + 1, data: { id: `${seq}` } })),
    { type: "story_update", channel: "stories", seq: 1, data: { id: "s" } },
    { type: "trust_score_update", channel: "trust_scores", seq: 1, story_id: "s", trust_score: 50, signals: [] },
  );
  expect(screen.getByText(/connected: 200 trends, 1 stories, 1 scores/)).toBeTruthy();
  expect(renders - before).toBeLessThanOrEqual(3); // one for each kind at most
});

test("leaving a page leaves its channels", async () => {
  const view = render(
    <WebSocketProvider url="ws://two">
      <Dashboard />
    </WebSocketProvider>,
  );
  await say(welcome);
  view.unmount();
  const left = sockets.at(-1).sent.filter(({ type }) => type === "unsubscribe");
  expect(left.map(({ channel }) => channel).sort()).toEqual(["stories", "trends", "trust_scores"]);
});
