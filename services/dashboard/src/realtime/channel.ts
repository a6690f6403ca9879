/**
 * One channel's place in its order: what to ask for, what is new and what is a repeat. Pure.
 *
 * A gateway answers `subscribe` with where the channel stands; events carry `seq`. After a reconnect the channel is
 * asked for with `since`, and what comes again is dropped.
 */

import type { ServerEvent, Subscribed } from "./messages";

/** What a client has missed for good, or that its order is whole. */
export type Continuity = "whole" | "lost";

export class ChannelPosition {
  /** The newest event handed on; undefined before the channel was ever acknowledged. */
  last: number | undefined;
  epoch: string | undefined;
  private snapshotLeft = 0;

  /** The fields a `subscribe` message needs to go on from here. */
  resume(snapshot: boolean): { since?: number; epoch?: string; snapshot?: boolean } {
    if (this.last === undefined) return snapshot ? { snapshot: true } : {};
    return this.epoch === undefined ? { since: this.last } : { since: this.last, epoch: this.epoch };
  }

  /** Take an acknowledgement; tell whether anything was lost that will not come any more. */
  acknowledged(message: Subscribed): Continuity {
    const known = this.last !== undefined;
    this.epoch = message.epoch ?? this.epoch;
    this.snapshotLeft = message.snapshot ?? 0;
    if (known && message.recovered === true) return "whole";
    this.last = message.seq ?? this.last;
    return known && message.recovered === false ? "lost" : "whole";
  }

  /** Tell whether an event is to be handed on. */
  accepts(event: ServerEvent): boolean {
    if (event.seq === undefined || event.seq === null) return true;
    if (this.snapshotLeft > 0) {
      this.snapshotLeft -= 1;
      return true;
    }
    if (this.last !== undefined && event.seq <= this.last) return false;
    this.last = event.seq;
    return true;
  }

  /** Tell whether the server has events this client has not seen. */
  behind(newest: number): boolean {
    return this.last !== undefined && newest > this.last;
  }
}
