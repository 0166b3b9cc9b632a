// @ts-check
/**
 * Follows a stream of Server-Sent Events until it is stopped. Uses fetch, because EventSource cannot send the key in a
 * header. Reconnects with exponential backoff, and resumes after the last message that was read.
 */

import { EventStreamParser } from "./sse.js";

/** @typedef {"connecting" | "live" | "reconnecting" | "ended"} LiveState */

const FIRST_PAUSE = 500;
const MAX_PAUSE = 15_000;
/** Milliseconds without data after which a connection counts as broken: the gateway sends a comment every 15 s. */
const SILENCE_LIMIT = 45_000;

/**
 * The pause in milliseconds before attempt `failures` + 1: doubled with each failure, with jitter of up to a half by
 * `chance` (0 to 1).
 * @param {number} failures
 * @param {number} chance
 */
export function pauseBefore(failures, chance) {
  const whole = Math.min(MAX_PAUSE, FIRST_PAUSE * 2 ** Math.max(0, failures - 1));
  return whole * (0.5 + 0.5 * chance);
}

/**
 * @param {{
 *   open: (after: string | null, signal: AbortSignal) => Promise<Response>,
 *   onMessage: (message: import("./sse.js").StreamMessage) => void,
 *   onState?: (state: LiveState) => void,
 *   isLast?: (message: import("./sse.js").StreamMessage) => boolean,
 *   isFatal?: (error: unknown) => boolean,
 * }} options `isLast`: no message follows this one. `isFatal`: another attempt would fail too.
 * @returns {() => void} stops following
 */
export function follow({ open, onMessage, onState = () => {}, isLast = () => false, isFatal = () => false }) {
  const stopped = new AbortController();
  /** @type {AbortController | null} */
  let attempt = null;
  let after = /** @type {string | null} */ (null);
  let failures = 0;

  /** Reads one connection until it ends; returns true after the last message of the stream. */
  async function connection() {
    const here = (attempt = new AbortController());
    const guard = watchdog(() => here.abort());
    try {
      const response = await open(after, here.signal);
      if (!response.body) throw new Error("the response has no body");
      onState("live");
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new EventStreamParser();
      for (;;) {
        guard.restart();
        const { done, value } = await reader.read();
        if (done) return false;
        for (const message of parser.feed(value)) {
          failures = 0; // only a message proves that the connection works
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

  async function connectRepeatedly() {
    onState("connecting");
    while (!stopped.signal.aborted) {
      if (document.hidden) await untilVisible(stopped.signal);
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

  // A hidden page closes its connection: over HTTP/1.1 browsers open at most six to one host, for all tabs together.
  const onVisibility = () => {
    if (document.hidden) attempt?.abort();
  };
  document.addEventListener("visibilitychange", onVisibility);
  stopped.signal.addEventListener("abort", () => {
    document.removeEventListener("visibilitychange", onVisibility);
    attempt?.abort();
  });
  void connectRepeatedly();
  return () => stopped.abort();
}

/** @param {() => void} onSilence */
function watchdog(onSilence) {
  let timer = setTimeout(onSilence, SILENCE_LIMIT);
  return {
    restart() {
      clearTimeout(timer);
      timer = setTimeout(onSilence, SILENCE_LIMIT);
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
function untilVisible(signal) {
  return new Promise((resolve) => {
    const resolveIfVisible = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", resolveIfVisible);
      resolve();
    };
    document.addEventListener("visibilitychange", resolveIfVisible);
    signal.addEventListener("abort", resolveIfVisible, { once: true });
  });
}
