// @ts-check
/** A value that can be watched, and a hook that draws a component anew when it changes. */

import { useEffect, useState } from "../vendor/index.js";

/**
 * @template T
 * @typedef {{ get: () => T, set: (value: T) => void, watch: (listener: (value: T) => void) => () => void }} Cell
 */

/**
 * @template T
 * @param {T} initial
 * @returns {Cell<T>}
 */
export function cell(initial) {
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
 * @param {Cell<T>} watched
 * @returns {T}
 */
export function useCell(watched) {
  const [, redraw] = useState({});
  useEffect(() => watched.watch(() => redraw({})), [watched]);
  return watched.get();
}
