/** The wire protocol as types: made from the Python models (`wire.ts`), named as this package uses them. */

import type {
  ConnectionMessage,
  ErrorMessage,
  Reconnect,
  ServerPing,
  StoryUpdate,
  Subscribed,
  TrendUpdate,
  TrustScoreUpdate,
  UserMessage,
} from "./wire";

export type { ErrorMessage, ItemRef, Reconnect, Signal, Story, StoryUpdate, Subscribed, Trend, TrendUpdate } from "./wire";
export type { TrustScoreUpdate, UserMessage } from "./wire";

/** What producers say; each names its channel. */
export type ServerEvent = TrendUpdate | StoryUpdate | TrustScoreUpdate | UserMessage;

/** Everything a gateway may send that this client knows; other types are ignored. */
export type ServerMessage = ServerEvent | ConnectionMessage | Subscribed | ServerPing | Reconnect | ErrorMessage;

const EVENTS: ReadonlySet<string> = new Set(["trend_update", "story_update", "trust_score_update", "user_message"]);

/** Tell events from control messages. */
export function isEvent(message: { type?: string }): message is ServerEvent {
  return message.type !== undefined && EVENTS.has(message.type);
}
