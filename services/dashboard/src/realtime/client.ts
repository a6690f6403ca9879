/**
 * One WebSocket for a whole page: channels are counted by reference, lost connections come back by themselves, and
 * nothing is lost or repeated over it. Knows nothing of React.
 */

import { backoff } from "./backoff";
import { ChannelPosition } from "./channel";
import { isEvent, type ErrorMessage, type ServerEvent, type ServerMessage } from "./messages";

/**
 * Where the connection stands. `live`: open and acknowledged. `connecting`: the first attempt. `offline`: lost, coming
 * back by itself. `paused`: the page has been hidden for long. `signed-out`: the token is not accepted. `closed`: ended.
 */
export type State = "connecting" | "live" | "offline" | "paused" | "signed-out" | "closed";

export type Listener = (event: ServerEvent) => void;

export interface Status {
  readonly state: State;
  /** When the next attempt comes (Unix milliseconds), while offline. */
  readonly retryAt: number | undefined;
  readonly attempts: number;
  /** When anything was last heard (Unix milliseconds). */
  readonly heardAt: number | undefined;
}

export interface ClientOptions {
  /** The gateway's address, `ws://…/api/v1/ws/connect`. */
  readonly url: string;
  /** Returns a token, asked for anew whenever the one before has ended. Never part of the address. */
  readonly token?: () => Promise<string | undefined>;
  /** Told of every error message of the gateway. */
  readonly onError?: (error: ErrorMessage) => void;
  /** Told when events of a channel are gone for good: load its current state anew. */
  readonly onLost?: (channel: string) => void;
  /** A page hidden for longer lets go of the connection (milliseconds); it comes back when it is seen. */
  readonly pauseAfter?: number;
  readonly WebSocket?: new (url: string, protocols: string[]) => WebSocket;
  readonly random?: () => number;
}

interface Channel {
  readonly listeners: Set<Listener>;
  readonly position: ChannelPosition;
  snapshot: boolean;
}

const OPEN = 1; // WebSocket.OPEN, which a stand-in need not have
const UNAUTHORIZED = 4401;
const PAUSE_AFTER_MS = 5 * 60_000;
/** An event may still be on its way when the heartbeat that names it comes. */
const BEHIND_MS = 2_000;

export class RealtimeClient {
  private readonly channels = new Map<string, Channel>();
  private readonly watchers = new Set<() => void>();
  private socket: WebSocket | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private watchdog: ReturnType<typeof setTimeout> | undefined;
  private hiddenTimer: ReturnType<typeof setTimeout> | undefined;
  private silence = 45_000;
  private current: Status = { state: "connecting", retryAt: undefined, attempts: 0, heardAt: undefined };
  private heardAt: number | undefined;
  private readonly random: () => number;

  constructor(private readonly options: ClientOptions) {
    this.random = options.random ?? Math.random;
    if (typeof window !== "undefined") {
      window.addEventListener("online", this.retryNow);
      window.addEventListener("offline", this.lost);
      document.addEventListener("visibilitychange", this.visibilityChanged);
    }
    this.connect();
  }

  /** Milliseconds from published to here, of the newest live event; clocks may differ. */
  delay: number | undefined;

  /** The state as one object that changes only when the state does. */
  get status(): Status {
    return this.current;
  }

  /** When anything was last heard (Unix milliseconds). */
  get lastHeard(): number | undefined {
    return this.heardAt;
  }

  /** Hear of every change of `status`; returns what ends it. */
  watch(watcher: () => void): () => void {
    this.watchers.add(watcher);
    return () => void this.watchers.delete(watcher);
  }

  /**
   * Hear a channel; returns what ends it. Any number of listeners share one subscription. With `snapshot`, the newest
   * state of each thing comes first.
   */
  subscribe(name: string, listener: Listener, { snapshot = false }: { snapshot?: boolean } = {}): () => void {
    let channel = this.channels.get(name);
    if (channel === undefined) {
      channel = { listeners: new Set(), position: new ChannelPosition(), snapshot };
      this.channels.set(name, channel);
      this.ask(name, channel);
    }
    channel.listeners.add(listener);
    return () => {
      if (!channel.listeners.delete(listener) || channel.listeners.size > 0) return;
      this.channels.delete(name);
      this.send({ type: "unsubscribe", channel: name });
    };
  }

  /** Try again at once, from the beginning of the backoff. */
  readonly retryNow = (): void => {
    if (this.current.state !== "offline" && this.current.state !== "paused" && this.current.state !== "signed-out") return;
    this.update({ attempts: 0 });
    this.connect();
  };

  /** End for good. */
  close(): void {
    if (typeof window !== "undefined") {
      window.removeEventListener("online", this.retryNow);
      window.removeEventListener("offline", this.lost);
      document.removeEventListener("visibilitychange", this.visibilityChanged);
    }
    clearTimeout(this.hiddenTimer);
    this.drop("closed");
    this.watchers.clear();
  }

  private connect(): void {
    clearTimeout(this.timer);
    this.drop(this.current.attempts === 0 && this.heardAt === undefined ? "connecting" : this.current.state);
    const Socket = this.options.WebSocket ?? WebSocket;
    const socket = new Socket(this.options.url, ["veracity.v1"]);
    this.socket = socket;
    this.watchSilence();
    socket.onmessage = ({ data }: MessageEvent) => {
      if (this.socket === socket && typeof data === "string") void this.received(data);
    };
    socket.onclose = ({ code }: CloseEvent) => {
      if (this.socket === socket) this.ended(code);
    };
  }

  private async received(text: string): Promise<void> {
    this.heardAt = Date.now();
    this.watchSilence();
    const message = JSON.parse(text) as ServerMessage;
    if (isEvent(message)) {
      this.deliver(message);
      return;
    }
    switch (message.type) {
      case "connection":
        this.silence = message.heartbeat.interval * 1_500;
        await this.welcomed();
        break;
      case "subscribed": {
        const continuity = this.channels.get(message.channel)?.position.acknowledged(message);
        if (continuity === "lost") this.options.onLost?.(message.channel);
        break;
      }
      case "ping":
        this.send({ type: "pong" });
        this.compare(message.at ?? {});
        break;
      case "error":
        this.options.onError?.(message);
        if (message.code === "unauthorized") await this.authenticate();
        break;
      case "reconnect":
        break; // the gateway closes with 1012 when it is this client's turn; it comes back as after any close
    }
  }

  private async welcomed(): Promise<void> {
    const socket = this.socket;
    await this.authenticate();
    if (this.socket !== socket) return;
    this.update({ state: "live", retryAt: undefined, attempts: 0 });
    for (const [name, channel] of this.channels) this.ask(name, channel);
  }

  private async authenticate(): Promise<void> {
    const token = await this.options.token?.();
    if (token !== undefined) this.send({ type: "auth", token });
  }

  private deliver(event: ServerEvent): void {
    const channel = this.channels.get(event.channel ?? "");
    if (channel === undefined || !channel.position.accepts(event)) return;
    if (event.timestamp !== undefined) this.delay = Date.now() - Date.parse(event.timestamp);
    for (const listener of [...channel.listeners]) listener(event);
  }

  /** A heartbeat names each channel's newest event: one that is missing for longer is asked for. */
  private compare(newest: Record<string, number>): void {
    for (const [name, seq] of Object.entries(newest)) {
      const channel = this.channels.get(name);
      if (channel === undefined || !channel.position.behind(seq)) continue;
      setTimeout(() => {
        if (this.channels.get(name) === channel && channel.position.behind(seq)) this.ask(name, channel);
      }, BEHIND_MS);
    }
  }

  private ask(name: string, channel: Channel): void {
    if (this.current.state !== "live") return; // all are asked for after the welcome
    this.send({ type: "subscribe", channel: name, ...channel.position.resume(channel.snapshot) });
  }

  private send(message: object): void {
    if (this.socket?.readyState === OPEN) this.socket.send(JSON.stringify(message));
  }

  private readonly lost = (): void => {
    if (this.current.state === "live" || this.current.state === "connecting") this.ended(0);
  };

  private ended(code: number): void {
    this.drop(this.current.state);
    if (code === UNAUTHORIZED && this.options.token === undefined) {
      this.update({ state: "signed-out", retryAt: undefined });
      return;
    }
    const wait = backoff(this.current.attempts, this.random);
    this.update({ state: "offline", retryAt: Date.now() + wait, attempts: this.current.attempts + 1 });
    this.timer = setTimeout(() => this.connect(), wait);
  }

  private drop(state: State): void {
    clearTimeout(this.timer);
    clearTimeout(this.watchdog);
    const socket = this.socket;
    this.socket = undefined;
    if (socket !== undefined) {
      socket.onclose = socket.onmessage = null;
      socket.close();
    }
    this.update({ state });
  }

  /** A connection that says nothing is dead, whatever the browser believes of it. */
  private watchSilence(): void {
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => this.ended(0), this.silence);
  }

  private readonly visibilityChanged = (): void => {
    clearTimeout(this.hiddenTimer);
    if (document.hidden) {
      this.hiddenTimer = setTimeout(() => this.drop("paused"), this.options.pauseAfter ?? PAUSE_AFTER_MS);
    } else {
      this.retryNow();
    }
  };

  private update(change: Partial<Status>): void {
    const next = { ...this.current, ...change, heardAt: this.heardAt };
    const same = next.state === this.current.state && next.retryAt === this.current.retryAt;
    this.current = same && next.attempts === this.current.attempts ? this.current : next;
    if (!same) for (const watcher of [...this.watchers]) watcher();
  }
}
