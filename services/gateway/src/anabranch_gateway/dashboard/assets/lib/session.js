// @ts-check
/** Browser storage: the key for this tab only, the theme permanently. Works without storage too. */

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
    // Private windows of some browsers refuse storage: the value then lasts until the page is closed.
  }
}

/** The API key of the user: stored until the tab is closed, and sent in a header only. */
export function storedKey() {
  let key = read(() => sessionStorage, KEY);
  return {
    get: () => key,
    set(/** @type {string | null} */ next) {
      key = next;
      write(() => sessionStorage, KEY, next);
    },
  };
}

/** The theme that the user chose, else that of the operating system, which may change. */
export function storedTheme() {
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
