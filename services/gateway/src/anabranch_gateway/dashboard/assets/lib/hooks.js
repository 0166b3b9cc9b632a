// @ts-check
/** Hooks that components share: the app context, the current time, loaded data, streams, keyboard shortcuts. */

import { createContext, useContext, useEffect, useMemo, useRef, useState } from "../vendor/index.js";
import { isAbort } from "./api.js";
import { observable, useObservable } from "./observable.js";
import { follow } from "./live.js";

/**
 * @typedef {{
 *   api: import("./api.js").Api,
 *   live: import("./observable.js").Observable<import("./live.js").LiveState | "off">,
 *   submitted: import("./observable.js").Observable<string | null>,
 *   theme: { get: () => "light" | "dark", watch: (listener: (theme: any) => void) => () => void, set: (theme: any) => void },
 *   caller: import("./observable.js").Observable<{ actor: string, role: string, projects: string[] | "*" } | null>,
 *   notify: (text: string, tone?: "good" | "bad") => void,
 *   confirm: (question: import("../ui/dialog.js").Question) => Promise<boolean>,
 * }} AppContext
 */

export const App = createContext(/** @type {any} */ (null));

/** @returns {AppContext} */
export const useApp = () => useContext(App);

const currentTime = observable(Date.now() / 1000);
setInterval(() => {
  if (!document.hidden) currentTime.set(Date.now() / 1000);
}, 1000);

/** The current time in seconds since the epoch, updated each second. */
export const useNow = () => useObservable(currentTime);

/**
 * Loads a value when `keys` change, and again by `reload`. The last value stays while the next one is loaded.
 * @template T
 * @param {((signal: AbortSignal) => Promise<T>) | null} load null to load nothing
 * @param {unknown[]} keys
 */
export function useLoaded(load, keys) {
  const [state, setState] = useState(/** @type {{ value: T | null, error: any, key: string, took: number }} */ ({ value: null, error: null, key: "", took: 0 }));
  const key = JSON.stringify(keys);
  // The effect below must not restart at each render, so it calls the newest function through a ref.
  const latest = useRef(load);
  latest.current = load;
  const running = useRef(/** @type {AbortController | null} */ (null));

  const reload = useMemo(
    () => async () => {
      running.current?.abort(); // an older response must not replace a newer one
      const load = latest.current;
      if (!load) return;
      const controller = (running.current = new AbortController());
      const began = performance.now();
      try {
        const value = await load(controller.signal);
        if (!controller.signal.aborted) setState({ value, error: null, key, took: performance.now() - began });
      } catch (error) {
        if (controller.signal.aborted || isAbort(error)) return;
        setState((/** @type {any} */ before) => ({ ...before, error, key, took: performance.now() - began }));
      }
    },
    [key],
  );
  useEffect(() => {
    void reload();
    return () => running.current?.abort();
  }, [reload, load === null]);
  const fresh = state.key === key;
  return { value: state.value, error: fresh ? state.error : null, isLoading: !fresh, took: state.took, reload };
}

/**
 * Calls `listener` again `milliseconds` after its last call has ended, while `wanted` is true and the page is visible.
 * @param {boolean} wanted
 * @param {number} milliseconds
 * @param {() => Promise<void> | void} listener
 */
export function useEvery(wanted, milliseconds, listener) {
  const latest = useRef(listener);
  latest.current = listener;
  useEffect(() => {
    if (!wanted) return undefined;
    let stopped = false;
    let timer = 0;
    const tick = async () => {
      if (!document.hidden) await latest.current();
      if (!stopped) timer = window.setTimeout(tick, milliseconds);
    };
    timer = window.setTimeout(tick, milliseconds);
    return () => {
      stopped = true;
      clearTimeout(timer);
    };
  }, [wanted, milliseconds]);
}

/**
 * Follows a stream of the API while the component is mounted; its state is shown at the top of the page.
 * @param {{ path: string, query?: import("./api.js").Query } | null} stream
 * @param {(message: import("./sse.js").StreamMessage) => void} onMessage
 * @param {(message: import("./sse.js").StreamMessage) => boolean} [isLast]
 */
export function useStream(stream, onMessage, isLast) {
  const app = useApp();
  const latest = useRef(onMessage);
  latest.current = onMessage;
  const key = JSON.stringify(stream);
  useEffect(() => {
    if (!stream) {
      app.live.set("off");
      return undefined;
    }
    const stop = follow({
      open: (after, signal) => app.api.stream(stream.path, stream.query ?? {}, after, signal),
      onMessage: (message) => latest.current(message),
      onState: (state) => app.live.set(state),
      isLast,
      isFatal: (/** @type {any} */ error) => [401, 403, 404].includes(error?.status),
    });
    return () => {
      stop();
      app.live.set("off");
    };
  }, [key]);
}

/**
 * A throttled function: it runs at once, and then at most once in `milliseconds`.
 * @param {() => void} run
 * @param {number} milliseconds
 */
export function useCoalesced(run, milliseconds) {
  const latest = useRef(run);
  latest.current = run;
  const state = useRef({ timer: 0, last: -Infinity });
  useEffect(() => () => clearTimeout(state.current.timer), []);
  return useMemo(
    () => () => {
      const { current } = state;
      if (current.timer) return;
      const wait = Math.max(0, current.last + milliseconds - performance.now());
      current.timer = window.setTimeout(() => {
        current.timer = 0;
        current.last = performance.now();
        latest.current();
      }, wait);
    },
    [milliseconds],
  );
}

/**
 * Keyboard shortcuts of a view, disabled while the user types or a dialog is open.
 * @param {Record<string, (event: KeyboardEvent) => void>} keys
 */
export function useKeys(keys) {
  const latest = useRef(keys);
  latest.current = keys;
  useEffect(() => {
    const listener = (/** @type {KeyboardEvent} */ event) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
      if (document.querySelector("dialog[open]")) return;
      const found = latest.current[event.key];
      if (!found) return;
      event.preventDefault();
      found(event);
    };
    addEventListener("keydown", listener);
    return () => removeEventListener("keydown", listener);
  }, []);
}

/** @param {EventTarget | null} target */
const isTyping = (target) => target instanceof HTMLElement && target.matches("input, textarea, select, [contenteditable]");

/** @param {string} title */
export function useTitle(title) {
  useEffect(() => {
    document.title = title ? `${title} · Anabranch` : "Anabranch";
  }, [title]);
}
