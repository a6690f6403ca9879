/** The dashboard: what is live, one story, or the system, by the address after `#`. */

import { Component, useEffect, useMemo, useRef, useState, useSyncExternalStore, type ReactNode } from "react";
import { ConnectionStatus, useSharedWebSocket } from "../realtime";
import { Stories } from "./Stories";
import { Store, type Snapshot } from "./store";
import { StoryPage } from "./StoryPage";
import { System } from "./System";
import { Trends } from "./Trends";

const SHOWN_TRENDS = 30;
const TICK_MS = 1_000;

function useHash(): string {
  return useSyncExternalStore(
    (watcher) => {
      window.addEventListener("hashchange", watcher);
      return () => window.removeEventListener("hashchange", watcher);
    },
    () => window.location.hash,
  );
}

function useNow(): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), TICK_MS);
    return () => clearInterval(timer);
  }, []);
  return now;
}

/** Return `live`, or what it was when the reader asked for quiet. */
function usePausable(live: Snapshot): { shown: Snapshot; paused: boolean; fresh: number; toggle: () => void } {
  const [held, setHeld] = useState<Snapshot>();
  const toggle = (): void => setHeld(held === undefined ? live : undefined);
  return { shown: held ?? live, paused: held !== undefined, fresh: held ? live.events - held.events : 0, toggle };
}

export function App(): ReactNode {
  const { client, state, retryNow, retryAt } = useSharedWebSocket();
  const store = useMemo(() => new Store(), []);
  useEffect(() => store.start(client), [store, client]);
  const live = useSyncExternalStore(store.watch, store.get);
  const { shown, paused, fresh, toggle } = usePausable(live);
  const hash = useHash();
  const now = useNow();
  const rate = useRate(live.events, now);
  const main = useRef<HTMLElement>(null);
  const story = /^#\/story\/([\w-]+)$/.exec(hash)?.[1];
  const page = story !== undefined ? "story" : hash === "#/system" ? "system" : "live";
  useEffect(() => {
    if (page === "story") main.current?.focus();
  }, [page, story]);
  const trends = useMemo(() => [...shown.trends.values()].reverse().slice(0, SHOWN_TRENDS), [shown]);
  const stories = useMemo(() => [...shown.stories.values()].reverse(), [shown]);
  return (
    <div className="mx-auto max-w-6xl p-4 pb-20">
      <a href="#main" className="sr-only focus:not-sr-only" onClick={(event) => (event.preventDefault(), main.current?.focus())}>
        Skip to the content
      </a>
      <header className="mb-4 flex flex-wrap items-center gap-4">
        <p className="text-xl font-bold">Veracity</p>
        <nav aria-label="Pages" className="flex gap-2">
          <Tab href="#/" current={page === "live"}>
            Live
          </Tab>
          <Tab href="#/system" current={page === "system"}>
            System
          </Tab>
        </nav>
        <button type="button" onClick={toggle} aria-pressed={paused} className="ml-auto rounded border border-slate-400 px-3 py-1">
          {paused ? `Resume (${fresh} new)` : "Pause"}
        </button>
      </header>
      {state === "offline" && live.loaded && (
        <p className="mb-4 rounded bg-yellow-200 p-2 text-black" data-testid="offline">
          The connection is lost; what you see may be old. Trying again
          {retryAt !== undefined && ` in ${Math.max(0, Math.ceil((retryAt - now) / 1_000))} s`}.{" "}
          <button type="button" onClick={retryNow} className="underline">
            Try now
          </button>
        </p>
      )}
      <main id="main" ref={main} tabIndex={-1} className="outline-none">
        {page === "live" && (
          <>
            <h1 className="sr-only">Live trends and stories</h1>
            <div className="grid items-start gap-4 lg:grid-cols-2">
              <Guard>
                <Trends trends={trends} loaded={live.loaded} now={now} />
              </Guard>
              <Guard>
                <Stories stories={stories} loaded={live.loaded} now={now} />
              </Guard>
            </div>
          </>
        )}
        {page === "story" && story !== undefined && (
          <Guard key={story}>
            <StoryPage id={story} live={shown} now={now} />
          </Guard>
        )}
        {page === "system" && (
          <Guard>
            <h1 className="sr-only">The system</h1>
            <System rate={rate} delay={client.delay} />
          </Guard>
        )}
      </main>
      <ConnectionStatus />
    </div>
  );
}

/** Events a second, over the last few seconds. */
function useRate(events: number, now: number): number {
  const past = useRef<{ at: number; events: number }[]>([]);
  return useMemo(() => {
    past.current = [...past.current, { at: now, events }].slice(-10);
    const first = past.current[0];
    return first === undefined || first.at === now ? 0 : (events - first.events) / ((now - first.at) / 1_000);
    // Once a second is often enough.
  }, [now]); // eslint-disable-line
}

function Tab({ href, current, children }: { href: string; current: boolean; children: ReactNode }): ReactNode {
  const look = current ? "bg-slate-800 text-white dark:bg-slate-200 dark:text-black" : "hover:bg-slate-200 dark:hover:bg-slate-800";
  return (
    <a href={href} aria-current={current ? "page" : undefined} className={`rounded px-3 py-1 ${look}`}>
      {children}
    </a>
  );
}

/** One panel's failure is that panel's alone. */
class Guard extends Component<{ children: ReactNode }, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError(): { failed: boolean } {
    return { failed: true };
  }

  override render(): ReactNode {
    if (!this.state.failed) return this.props.children;
    return (
      <p role="alert" className="p-4">
        This part of the page has failed.{" "}
        <button type="button" className="underline" onClick={() => this.setState({ failed: false })}>
          Show it again
        </button>
      </p>
    );
  }
}
