// @ts-check
/** What the browser keeps: the key for this tab only, the theme for good. A browser that keeps nothing works too. */

const KEY = "anabranch.key";
const THEME = "anabranch.theme";

/** @param {() => Storage} storage @param {string} name */
function read(storage, name) {
  try {
    return storage().getItem(name);
  } catch {
    return null;
  }
}

/** @param {() => Storage} storage @param {string} name @param {string | null} value */
function write(storage, name, value) {
  try {
    if (value === null) storage().removeItem(name);
    else storage().setItem(name, value);
  } catch {
    // Private windows of some browsers refuse: then it lasts until the page is left.
  }
}

/** The API key that the user has signed in with: kept until the tab is closed, and sent in a header only. */
export function keptKey() {
  let key = read(() => sessionStorage, KEY);
  return {
    get: () => key,
    set(/** @type {string | null} */ next) {
      key = next;
      write(() => sessionStorage, KEY, next);
    },
  };
}

/** Dark or light: as chosen, else as the system has it, also when that changes. */
export function keptTheme() {
  /** @type {Set<(theme: string) => void>} */
  const listeners = new Set();
  const root = document.documentElement;
  const apply = (/** @type {string} */ theme) => {
    root.dataset.theme = theme;
    for (const listener of listeners) listener(theme);
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
    if (read(() => localStorage, THEME) === null) apply(event.matches ? "dark" : "light");
  });
  return {
    get: () => root.dataset.theme ?? "light",
    set(/** @type {string} */ theme) {
      write(() => localStorage, THEME, theme);
      apply(theme);
    },
    watch(/** @type {(theme: string) => void} */ listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
