/** React bindings: one client for a page, hooks by the kind of event, and bursts that render once per frame. */

import { CircleX, Wifi } from "lucide-react";
import { createContext, useCallback, useContext, useEffect, useRef, useSyncExternalStore, type ReactNode } from "react";
import { RealtimeClient, type ClientOptions, type Listener, type Status } from "./client";
import type { ServerEvent, Story, Trend, TrustScoreUpdate } from "./messages";

/** The gateway that served this page, or the one `make run` starts. */
export function defaultUrl(): string {
  const { protocol, host } = window.location;
  const served = protocol.startsWith("http") && host !== "";
  return `${protocol === "https:" ? "wss" : "ws"}://${served ? host : "localhost:8000"}/api/v1/ws/connect?channel=general`;
}

const clients = new Map<string, RealtimeClient>();

/** Return the page's one client for an address; the options are those of the first who asks. */
export function sharedClient(options: Partial<ClientOptions> = {}): RealtimeClient {
  const url = options.url ?? defaultUrl();
  let client = clients.get(url);
  if (client === undefined || client.status.state === "closed") {
    client = new RealtimeClient({ ...options, url });
    clients.set(url, client);
  }
  return client;
}

const Context = createContext<RealtimeClient | undefined>(undefined);

/** Gives everything below it one connection. Without it, hooks share that of the address they are used at. */
export function WebSocketProvider({ children, ...options }: Partial<ClientOptions> & { children: ReactNode }): ReactNode {
  return <Context.Provider value={sharedClient(options)}>{children}</Context.Provider>;
}

function useClient(options: Partial<ClientOptions> = {}): RealtimeClient {
  const provided = useContext(Context);
  return options.url === undefined && provided !== undefined ? provided : sharedClient(options);
}

function useStatus(client: RealtimeClient): Status {
  return useSyncExternalStore(
    useCallback((watcher) => client.watch(watcher), [client]),
    () => client.status,
  );
}

export interface WebSocketContextValue extends Status {
  readonly isConnected: boolean;
  readonly retryNow: () => void;
}

/** The connection's state, for badges and banners. */
export function useWebSocketContext(): WebSocketContextValue {
  const client = useClient();
  const status = useStatus(client);
  return { ...status, isConnected: status.state === "live", retryNow: client.retryNow };
}

export interface SharedWebSocket extends WebSocketContextValue {
  readonly client: RealtimeClient;
  /** Hear a channel until `unsubscribe` or until the component goes. */
  readonly subscribe: (channel: string, handler: Listener) => void;
  /** Hear it no longer in this component; others that do are not affected. */
  readonly unsubscribe: (channel: string) => void;
}

/** The page's connection; every component that uses it shares the one socket. */
export function useSharedWebSocket(options: Partial<ClientOptions> = {}): SharedWebSocket {
  const client = useClient(options);
  const status = useStatus(client);
  const mine = useRef(new Map<string, () => void>());
  const unsubscribe = useCallback((channel: string) => {
    mine.current.get(channel)?.();
    mine.current.delete(channel);
  }, []);
  const subscribe = useCallback(
    (channel: string, handler: Listener) => {
      unsubscribe(channel);
      mine.current.set(channel, client.subscribe(channel, handler));
    },
    [client, unsubscribe],
  );
  useEffect(() => {
    const subscriptions = mine.current;
    return () => {
      for (const end of subscriptions.values()) end();
      subscriptions.clear();
    };
  }, [client]);
  return { ...status, client, isConnected: status.state === "live", retryNow: client.retryNow, subscribe, unsubscribe };
}

/** Call `handle` with the events of one frame at once; a hidden page, which has no frames, gets them every second. */
export function perFrame(handle: (events: ServerEvent[]) => void): { push: Listener; cancel: () => void } {
  let waiting: ServerEvent[] = [];
  let frame: number | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const flush = (): void => {
    if (frame !== undefined) cancelAnimationFrame(frame);
    clearTimeout(timer);
    frame = timer = undefined;
    const events = waiting;
    waiting = [];
    handle(events);
  };
  return {
    push: (event) => {
      if (waiting.push(event) > 1) return;
      frame = requestAnimationFrame(flush);
      timer = setTimeout(flush, 1_000);
    },
    cancel: () => {
      if (frame !== undefined) cancelAnimationFrame(frame);
      clearTimeout(timer);
      waiting = [];
    },
  };
}

function useEvents(channel: string, handle: (event: ServerEvent) => void): void {
  const client = useClient();
  const latest = useRef(handle);
  useEffect(() => {
    latest.current = handle;
  });
  useEffect(() => {
    const batch = perFrame((events) => events.forEach((event) => latest.current(event)));
    const end = client.subscribe(channel, batch.push);
    return () => {
      end();
      batch.cancel();
    };
  }, [client, channel]);
}

/** Hear trends. */
export function useTrendUpdates(onTrendUpdate?: (trend: Trend) => void): void {
  useEvents("trends", (event) => {
    if (event.type === "trend_update") onTrendUpdate?.(event.data);
  });
}

/** Hear one story, or all of them without an id. */
export function useStoryUpdates(storyId: string | undefined, onStoryUpdate?: (story: Story) => void): void {
  useEvents(storyId === undefined ? "stories" : `story:${storyId}`, (event) => {
    if (event.type === "story_update") onStoryUpdate?.(event.data);
  });
}

/** Hear trust scores. */
export function useTrustScoreUpdates(onScoreUpdate?: (update: TrustScoreUpdate) => void): void {
  useEvents("trust_scores", (event) => {
    if (event.type === "trust_score_update") onScoreUpdate?.(event);
  });
}

/** The badge: green "Live", or yellow and pulsing "Offline". Says changes to screen readers, and only those. */
export function ConnectionStatus(): ReactNode {
  const { isConnected } = useWebSocketContext();
  const look = isConnected ? "bg-green-700" : "bg-yellow-400 text-black animate-pulse motion-reduce:animate-none";
  return (
    <div className="fixed bottom-4 right-4 z-50" role="status" data-testid="connection-status">
      <div className={`flex items-center gap-2 rounded-full px-3 py-2 text-sm font-medium text-white ${look}`}>
        {isConnected ? <Wifi className="h-4 w-4" aria-hidden /> : <CircleX className="h-4 w-4" aria-hidden />}
        <span>{isConnected ? "Live" : "Offline"}</span>
      </div>
    </div>
  );
}

export default ConnectionStatus;
