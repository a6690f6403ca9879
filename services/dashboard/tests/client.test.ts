import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { backoff, QUICK_ATTEMPTS } from "../src/realtime/backoff";
import { ChannelPosition } from "../src/realtime/channel";
import { RealtimeClient, type ClientOptions } from "../src/realtime/client";
import type { ServerEvent } from "../src/realtime/messages";

/** A gateway's end of a WebSocket, played by the test. */
class Socket {
  static all: Socket[] = [];
  static get last(): Socket {
    return Socket.all.at(-1)!;
  }
  readyState = 1;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  readonly sent: Record<string, unknown>[] = [];

  constructor(readonly url: string) {
    Socket.all.push(this);
  }
  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }
  close(): void {
    this.readyState = 3;
  }
  async say(message: object): Promise<void> {
    this.onmessage?.({ data: JSON.stringify(message) });
    await vi.advanceTimersByTimeAsync(0);
  }
  async welcome(): Promise<void> {
    await this.say({ type: "connection", channel: "general", heartbeat: { interval: 30, timeout: 90 } });
  }
  fail(code = 1006): void {
    this.readyState = 3;
    this.onclose?.({ code });
  }
  subscriptions(): Record<string, unknown>[] {
    return this.sent.filter(({ type }) => type === "subscribe");
  }
}

const trend = (seq: number): object => ({ type: "trend_update", channel: "trends", seq, data: { id: `t${seq}` } });

const clients: RealtimeClient[] = [];

function connect(options: Partial<ClientOptions> = {}): RealtimeClient {
  const client = new RealtimeClient({
    url: "ws://gateway",
    WebSocket: Socket as unknown as new (url: string) => WebSocket,
    random: () => 0.5,
    ...options,
  });
  clients.push(client);
  return client;
}

beforeEach(() => {
  vi.useFakeTimers();
  Socket.all = [];
});
afterEach(() => {
  clients.splice(0).forEach((client) => client.close());
  vi.useRealTimers();
});

describe("a connection", () => {
  test("is live after the welcome, and channels are asked for once however many listen", async () => {
    const client = connect();
    const seen: ServerEvent[] = [];
    const ends = [client.subscribe("trends", (event) => seen.push(event)), client.subscribe("trends", () => {})];
    expect(client.status.state).toBe("connecting");
    await Socket.last.welcome();
    expect(client.status.state).toBe("live");
    expect(Socket.last.subscriptions()).toEqual([{ type: "subscribe", channel: "trends" }]);
    await Socket.last.say(trend(1));
    expect(seen).toHaveLength(1);
    ends[0]!();
    expect(Socket.last.sent.some(({ type }) => type === "unsubscribe")).toBe(false);
    ends[1]!();
    expect(Socket.last.sent.at(-1)).toEqual({ type: "unsubscribe", channel: "trends" });
  });

  test("that is lost comes back, asks for what it missed and hands nothing on twice", async () => {
    const client = connect();
    const seen: number[] = [];
    client.subscribe("trends", (event) => seen.push(event.seq!));
    await Socket.last.welcome();
    await Socket.last.say({ type: "subscribed", channel: "trends", seq: 4, epoch: "e" });
    await Socket.last.say(trend(5));
    Socket.last.fail();
    expect(client.status.state).toBe("offline");
    expect(client.status.retryAt).toBeGreaterThan(Date.now());
    await vi.advanceTimersByTimeAsync(500);
    await Socket.last.welcome();
    expect(Socket.last.subscriptions()).toEqual([{ type: "subscribe", channel: "trends", since: 5, epoch: "e" }]);
    await Socket.last.say({ type: "subscribed", channel: "trends", recovered: true, seq: 7, epoch: "e" });
    for (const seq of [5, 6, 7, 7, 8]) await Socket.last.say(trend(seq));
    expect(seen).toEqual([5, 6, 7, 8]);
  });

  test("says when events are gone for good", async () => {
    const onLost = vi.fn();
    const client = connect({ onLost });
    client.subscribe("trends", () => {});
    await Socket.last.welcome();
    await Socket.last.say({ type: "subscribed", channel: "trends", seq: 4, epoch: "e" });
    Socket.last.fail();
    await vi.advanceTimersByTimeAsync(500);
    await Socket.last.welcome();
    await Socket.last.say({ type: "subscribed", channel: "trends", recovered: false, seq: 900, epoch: "f" });
    expect(onLost).toHaveBeenCalledExactlyOnceWith("trends");
  });

  test("that falls silent is given up", async () => {
    const client = connect();
    await Socket.last.welcome();
    await vi.advanceTimersByTimeAsync(44_000);
    expect(client.status.state).toBe("live");
    await vi.advanceTimersByTimeAsync(2_000);
    expect(client.status.state).toBe("offline");
  });

  test("answers heartbeats, and asks for an event they name that does not come", async () => {
    const client = connect();
    client.subscribe("trends", () => {});
    await Socket.last.welcome();
    await Socket.last.say({ type: "subscribed", channel: "trends", seq: 4 });
    await Socket.last.say({ type: "ping", at: { trends: 5 } });
    expect(Socket.last.sent.at(-1)).toEqual({ type: "pong" });
    await vi.advanceTimersByTimeAsync(2_100);
    expect(Socket.last.subscriptions().at(-1)).toEqual({ type: "subscribe", channel: "trends", since: 4 });
  });

  test("tries quickly, then patiently, and at once when it is asked to or the network is back", async () => {
    const client = connect();
    for (let attempt = 0; attempt < QUICK_ATTEMPTS + 2; attempt += 1) {
      Socket.last.fail();
      await vi.advanceTimersToNextTimerAsync(); // nothing but the next attempt is waited for
    }
    expect(Socket.all).toHaveLength(QUICK_ATTEMPTS + 3);
    Socket.last.fail();
    const before = Socket.all.length;
    window.dispatchEvent(new Event("online"));
    expect(Socket.all).toHaveLength(before + 1);
    await Socket.last.welcome();
    expect(client.status).toMatchObject({ state: "live", attempts: 0 });
  });

  test("shows a new token whenever one is asked for, and never in the address", async () => {
    let number = 0;
    connect({ token: async () => `token ${++number}` });
    await Socket.last.welcome();
    expect(Socket.last.sent).toContainEqual({ type: "auth", token: "token 1" });
    await Socket.last.say({ type: "error", code: "unauthorized", message: "the token ends soon" });
    expect(Socket.last.sent).toContainEqual({ type: "auth", token: "token 2" });
    expect(Socket.last.url).not.toContain("token");
  });

  test("of a page without a token ends where one is needed", async () => {
    const client = connect();
    await Socket.last.welcome();
    Socket.last.fail(4401);
    expect(client.status.state).toBe("signed-out");
  });

  test("lets go while the page is hidden for long, and comes back when it is seen", async () => {
    const client = connect({ pauseAfter: 1_000 });
    await Socket.last.welcome();
    const hidden = vi.spyOn(document, "hidden", "get").mockReturnValue(true);
    document.dispatchEvent(new Event("visibilitychange"));
    await vi.advanceTimersByTimeAsync(1_100);
    expect(client.status.state).toBe("paused");
    hidden.mockReturnValue(false);
    document.dispatchEvent(new Event("visibilitychange"));
    await Socket.last.welcome();
    expect(client.status.state).toBe("live");
  });
});

describe("a channel's position", () => {
  test("lets a snapshot through although it is older than where the channel stands", () => {
    const position = new ChannelPosition();
    position.acknowledged({ type: "subscribed", channel: "trends", seq: 9, snapshot: 2 });
    const accepted = [3, 7, 9, 10].map((seq) => position.accepts(trend(seq) as ServerEvent));
    expect(accepted).toEqual([true, true, false, true]);
  });

  test("takes events without a sequence as they come", () => {
    expect(new ChannelPosition().accepts({ type: "trend_update" } as ServerEvent)).toBe(true);
  });
});

test("the backoff is spread over its whole range and ends patient", () => {
  expect(backoff(0, () => 0)).toBe(0);
  expect(backoff(3, () => 1)).toBe(4_000);
  expect(backoff(9, () => 1)).toBe(30_000);
  expect(backoff(QUICK_ATTEMPTS, () => 0)).toBe(30_000);
});
