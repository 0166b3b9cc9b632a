// @ts-check
/** Asks the worker for layouts; the answer to the latest question counts. */

let worker = /** @type {Worker | null} */ (null);
let tickets = 0;

/**
 * @param {import("./layout.js").LayoutNode[]} nodes
 * @param {import("./order.js").Edge[]} edges
 * @param {boolean} framed
 * @param {AbortSignal} signal
 * @returns {Promise<import("./layout.js").Layout>} never settles once the signal has fired
 */
export function layoutOf(nodes, edges, framed, signal) {
  const asked = (worker ??= new Worker(new URL("./worker.js", import.meta.url), { type: "module" }));
  const ticket = (tickets += 1);
  return new Promise((resolve, reject) => {
    const stop = new AbortController();
    signal.addEventListener("abort", () => stop.abort(), { once: true });
    asked.addEventListener(
      "message",
      ({ data }) => {
        if (data.ticket !== ticket) return;
        stop.abort();
        resolve(data.layout);
      },
      { signal: stop.signal },
    );
    asked.addEventListener("error", (event) => reject(new Error(`the layout failed: ${event.message}`)), { signal: stop.signal });
    asked.postMessage({ ticket, nodes, edges, framed });
  });
}
