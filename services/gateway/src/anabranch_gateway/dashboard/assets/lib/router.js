// @ts-check
/** Routes of the dashboard, in the part of the URL after `#`. `parse` and `format` are pure. */

/** @typedef {{ path: string[], query: Record<string, string> }} Route */

/**
 * "#/runs/r1/members?task=a%2Fb" to its path and query.
 * @param {string} hash
 * @returns {Route}
 */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#?\/?/, "").split("?", 2);
  return {
    path: path.split("/").filter(Boolean).map(decoded),
    query: Object.fromEntries(new URLSearchParams(query)),
  };
}

/** @param {string} part */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/**
 * The hash of a route. Empty values of the query are omitted.
 * @param {string[]} path
 * @param {Record<string, string | number | null | undefined>} [query]
 */
export function format(path, query = {}) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/**
 * Navigates to a route; `replace` overwrites the current entry of the history.
 * @param {string} hash
 * @param {{ replace?: boolean }} [how]
 */
export function go(hash, { replace = false } = {}) {
  if (hash === location.hash) return;
  if (replace) {
    // `replaceState` fires no event, so it is fired here.
    history.replaceState(null, "", hash);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = hash;
  }
}
