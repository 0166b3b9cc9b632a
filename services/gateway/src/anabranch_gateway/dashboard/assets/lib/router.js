// @ts-check
/** Where in the dashboard one is, as the part of the address after `#`. `parse` and `format` are pure. */

/** @typedef {{ path: string[], query: Record<string, string> }} Place */

/**
 * "#/runs/r1/members?task=a%2Fb" to its path and query.
 * @param {string} hash
 * @returns {Place}
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
 * The hash of a place. What is empty in the query is left out.
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
 * Goes to a place; with `replace` the one before it is not kept in the history.
 * @param {string} hash
 * @param {{ replace?: boolean }} [how]
 */
export function go(hash, { replace = false } = {}) {
  if (hash === location.hash) return;
  if (replace) {
    history.replaceState(null, "", hash);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = hash;
  }
}
