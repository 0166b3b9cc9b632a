// @ts-check
/**
 * Follows a stream of Server-Sent Events for as long as it is wanted: by fetch, so that the key travels in a header;
 * resumed after the last message that was read; with a growing pause between attempts.
 */

import { EventStreamParser } from "./sse.js";

/** @typedef {"connecting" | "live" | "reconnecting" | "ended"} LiveState */

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;
/** Heartbeats come more often than this; a line that is silent for longer is taken for cut. */
const SILENCE = 45_000;

/**
 * The pause in milliseconds before attempt `failures` + 1: doubling, between half and the whole of it by `chance` (0 to 1).
 * @param {number} failures
 * @param {number} chance
 */
export function pauseBefore(failures, chance) {
  const whole = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** Math.max(0, failures - 1));
  return whole * (0.5 + 0.5 * chance);
}

/**
 * @param {{
 *   open: (after: string | null, signal: AbortSignal) => Promise<Response>,
 *   onMessage: (message: import("./sse.js").StreamMessage) => void,
 *   onState?: (state: LiveState) => void,
 *   isLast?: (message: import("./sse.js").StreamMessage) => boolean,
 *   isFatal?: (error: unknown) => boolean,
 * }} wanted `isLast`: nothing follows on this message. `isFatal`: another attempt would fare no better.
 * @returns {() => void} stops it
 */
export function follow({ open, onMessage, onState = () => {}, isLast = () => false, isFatal = () => false }) {
  const stopped = new AbortController();
  /** @type {AbortController | null} */
  let attempt = null;
  let after = /** @type {string | null} */ (null);
  let failures = 0;

  /** One connection until it ends; true where the stream has come to its own end. */
  async function connection() {
    const here = (attempt = new AbortController());
    const guard = watchdog(() => here.abort());
    try {
      const response = await open(after, here.signal);
      if (!response.body) throw new Error("the answer has no body");
      onState("live");
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new EventStreamParser();
      for (;;) {
        guard.alive();
        const { done, value } = await reader.read();
        if (done) return false;
        for (const message of parser.feed(value)) {
          failures = 0;
          after = message.id ?? after;
          onMessage(message);
          if (isLast(message)) return true;
        }
      }
    } finally {
      guard.stop();
      here.abort();
    }
  }

  async function keepOn() {
    onState("connecting");
    while (!stopped.signal.aborted) {
      if (document.hidden) await visible(stopped.signal);
      if (stopped.signal.aborted) return;
      try {
        if (await connection()) break;
      } catch (error) {
        if (stopped.signal.aborted) return;
        if (isFatal(error)) break;
      }
      if (stopped.signal.aborted) return;
      failures += 1;
      onState("reconnecting");
      await pause(pauseBefore(failures, Math.random()), stopped.signal);
    }
    if (!stopped.signal.aborted) onState("ended");
  }

  // A page that nobody sees holds no connection: browsers grant a host six of them in all.
  const onVisibility = () => {
    if (document.hidden) attempt?.abort();
  };
  document.addEventListener("visibilitychange", onVisibility);
  stopped.signal.addEventListener("abort", () => {
    document.removeEventListener("visibilitychange", onVisibility);
    attempt?.abort();
  });
  void keepOn();
  return () => stopped.abort();
}

/** @param {() => void} onSilence */
function watchdog(onSilence) {
  let timer = setTimeout(onSilence, SILENCE);
  return {
    alive() {
      clearTimeout(timer);
      timer = setTimeout(onSilence, SILENCE);
    },
    stop: () => clearTimeout(timer),
  };
}

/** @param {number} milliseconds @param {AbortSignal} signal @returns {Promise<void>} */
function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

/** @param {AbortSignal} signal @returns {Promise<void>} */
function visible(signal) {
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look, { once: true });
  });
}
