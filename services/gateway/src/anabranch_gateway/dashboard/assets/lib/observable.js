// @ts-check
/** An observable value, and a hook that renders a component again when it changes. */

import { useEffect, useState } from "../vendor/index.js";

/**
 * @template T
 * @typedef {{ get: () => T, set: (value: T) => void, watch: (listener: (value: T) => void) => () => void }} Observable
 */

/**
 * @template T
 * @param {T} initial
 * @returns {Observable<T>}
 */
export function observable(initial) {
  let value = initial;
  /** @type {Set<(value: T) => void>} */
  const listeners = new Set();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const listener of [...listeners]) listener(next);
    },
    watch(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/**
 * @template T
 * @param {Observable<T>} watched
 * @returns {T}
 */
export function useObservable(watched) {
  const [, redraw] = useState({});
  useEffect(() => watched.watch(() => redraw({})), [watched]);
  return watched.get();
}
