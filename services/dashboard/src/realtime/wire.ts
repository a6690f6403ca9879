/* Made from the Python models by make types. */

/**
 * Any message between a client and a gateway.
 */
export type Message =
  | Subscribe
  | Unsubscribe
  | Ping
  | Pong
  | Auth
  | Ack
  | ConnectionMessage
  | Subscribed
  | Unsubscribed
  | TrendUpdate
  | StoryUpdate
  | TrustScoreUpdate
  | UserMessage
  | ServerPing
  | ServerPong
  | Authenticated
  | Conflated
  | Reconnect
  | ErrorMessage;
/**
 * Where a trend stands in its life.
 */
export type TrendPhase = "started" | "changed" | "ended";
/**
 * What an `error` message is about.
 */
export type ErrorCode =
  | "invalid_json"
  | "invalid_message"
  | "unknown_channel"
  | "forbidden"
  | "unauthorized"
  | "rate_limited"
  | "too_many_channels"
  | "history_gone";

/**
 * Join one or more channels.
 *
 * `since` asks for everything after that `seq`, in the `epoch` it was seen in; `snapshot` for the current state of
 * each thing first; `max_rate` for at most that many updates of each thing a second.
 */
export interface Subscribe {
  type: "subscribe";
  channel?: string | null;
  channels?: string[] | null;
  since?: number | null;
  epoch?: string | null;
  max_rate?: number | null;
  snapshot?: boolean;
  id?: string | null;
}
/**
 * Leave one or more channels.
 */
export interface Unsubscribe {
  type: "unsubscribe";
  channel?: string | null;
  channels?: string[] | null;
  id?: string | null;
}
/**
 * Asks the server for a `pong`.
 */
export interface Ping {
  type: "ping";
  timestamp?: string | number | null;
}
/**
 * The answer to a `ping`: the client is there.
 */
export interface Pong {
  type: "pong";
  timestamp?: string | number | null;
}
/**
 * Presents or renews a token on a live connection.
 */
export interface Auth {
  type: "auth";
  token: string;
  id?: string | null;
}
/**
 * The user has read their personal channel up to `seq`: it is not delivered again on another device.
 */
export interface Ack {
  type: "ack";
  channel: string;
  seq: number;
  id?: string | null;
}
/**
 * The welcome: the first message on every connection.
 */
export interface ConnectionMessage {
  timestamp?: string;
  type?: "connection";
  status?: "connected";
  channel: string;
  connection_id: string;
  user_id: string | null;
  heartbeat: Heartbeat;
}
/**
 * What the server expects: it pings every `interval` seconds and closes after `timeout` seconds of silence.
 */
export interface Heartbeat {
  interval: number;
  timeout: number;
}
/**
 * The subscription is in force on the broker: nothing published from now on is missed.
 */
export interface Subscribed {
  timestamp?: string;
  type?: "subscribed";
  channel: string;
  recovered?: boolean | null;
  seq?: number | null;
  epoch?: string | null;
  max_rate?: number | null;
  snapshot?: number | null;
  id?: string | null;
}
/**
 * The channel was left.
 */
export interface Unsubscribed {
  timestamp?: string;
  type?: "unsubscribed";
  channel: string;
  id?: string | null;
}
/**
 * A trend started, changed or ended.
 */
export interface TrendUpdate {
  timestamp?: string;
  channel?: string | null;
  seq?: number | null;
  delivered_at?: string | null;
  type?: "trend_update";
  data: Trend;
}
/**
 * A term that is mentioned markedly more, by more sources, than its own past explains.
 */
export interface Trend {
  id: string;
  name: string;
  /**
   * What kind of term bursts.
   */
  kind?: "keyword" | "hashtag" | "entity";
  phase: TrendPhase;
  /**
   * mentions in the current window
   */
  mention_count: number;
  /**
   * mentions per hour
   */
  velocity: number;
  /**
   * change of velocity, mentions per hour per hour
   */
  acceleration: number;
  /**
   * surprise: deviations above what the term's past predicts
   */
  score?: number;
  platforms?: {
    [k: string]: number;
  };
  /**
   * distinct sources in the current window
   */
  sources?: number;
  terms?: string[];
  top_items?: ItemRef[];
  first_seen: string;
  last_seen: string;
  revision?: number;
  simulated?: boolean;
}
/**
 * The part of an item that trends and stories carry as evidence.
 */
export interface ItemRef {
  id: string;
  platform: string;
  source: string;
  title: string;
  url?: string | null;
  author?: string | null;
  published_at: string;
  engagement?: Engagement | null;
  simulated?: boolean;
}
/**
 * What an item's audience did, as far as its platform tells; None where it does not.
 */
export interface Engagement {
  score?: number | null;
  comments?: number | null;
  shares?: number | null;
}
/**
 * A story appeared or grew.
 */
export interface StoryUpdate {
  timestamp?: string;
  channel?: string | null;
  seq?: number | null;
  delivered_at?: string | null;
  type?: "story_update";
  data: Story;
}
/**
 * Items that report the same happening.
 */
export interface Story {
  id: string;
  title: string;
  item_count: number;
  sources?: string[];
  platforms?: {
    [k: string]: number;
  };
  /**
   * items per hour over the last hour of event time
   */
  velocity?: number;
  first_seen: string;
  last_seen: string;
  /**
   * the evidence: first and newest items, bounded
   */
  items?: ItemRef[];
  /**
   * the story that took this one over, in its last update
   */
  merged_into?: string | null;
  revision?: number;
  simulated?: boolean;
}
/**
 * A story's trust score moved: by what each signal's `change` says, because of the story's `story_revision`.
 */
export interface TrustScoreUpdate {
  timestamp?: string;
  channel?: string | null;
  seq?: number | null;
  delivered_at?: string | null;
  type?: "trust_score_update";
  story_id: string;
  trust_score: number;
  signals: Signal[];
  previous_score?: number | null;
  confidence?: number | null;
  simulated?: boolean | null;
  model?: string | null;
  story_revision?: number | null;
}
/**
 * One reason behind a trust score.
 */
export interface Signal {
  name: string;
  /**
   * absent: nothing is known, so the signal neither raises nor lowers the score
   */
  value?: number | null;
  /**
   * its share in the score, after confidence
   */
  weight: number;
  /**
   * points it moves the score from the neutral 50
   */
  contribution: number;
  confidence: number;
  explanation: string;
  /**
   * its value when the score was last told
   */
  previous_value?: number | null;
  /**
   * points it moved the score by since then; those of all signals add up to the move
   */
  change?: number | null;
}
/**
 * A personal message.
 */
export interface UserMessage {
  timestamp?: string;
  channel?: string | null;
  seq?: number | null;
  delivered_at?: string | null;
  type?: "user_message";
  data: {
    [k: string]: unknown;
  };
}
/**
 * Heartbeat: answer with `pong`, or send anything else, to stay connected.
 */
export interface ServerPing {
  timestamp?: string;
  type?: "ping";
  at?: {
    [k: string]: number;
  } | null;
}
/**
 * The answer to a client's `ping`.
 */
export interface ServerPong {
  timestamp?: string;
  type?: "pong";
}
/**
 * The token was accepted; the connection ends with it unless it is renewed.
 */
export interface Authenticated {
  timestamp?: string;
  type?: "authenticated";
  user_id: string;
  expires_in: number;
  id?: string | null;
}
/**
 * The client was slow and asked for the latest only: so many older states were left out, and it is current now.
 */
export interface Conflated {
  timestamp?: string;
  type?: "conflated";
  count: number;
}
/**
 * The server goes away; come back after `after_ms`.
 */
export interface Reconnect {
  timestamp?: string;
  type?: "reconnect";
  after_ms: number;
  reason: string;
}
/**
 * A request was not carried out; the connection stays open.
 */
export interface ErrorMessage {
  timestamp?: string;
  type?: "error";
  code: ErrorCode;
  message: string;
  channel?: string | null;
  retry_after?: number | null;
  id?: string | null;
}
