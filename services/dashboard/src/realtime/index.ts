/** `@veracity/realtime`: trends, stories and trust scores as they happen. */

export { RealtimeClient } from "./client";
export type { ClientOptions, Listener, State, Status } from "./client";
export type { ServerEvent, Signal, Story, Trend, TrustScoreUpdate, UserMessage } from "./messages";
export {
  ConnectionStatus,
  sharedClient,
  useSharedWebSocket,
  useStoryUpdates,
  useTrendUpdates,
  useTrustScoreUpdates,
  useWebSocketContext,
  WebSocketProvider,
} from "./react";
