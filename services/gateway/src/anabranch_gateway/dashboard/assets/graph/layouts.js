// @ts-check
/** Computes layouts in a web worker. Responses are matched to requests by id. */

let worker = /** @type {Worker | null} */ (null);
let lastId = 0;

/**
 * @param {import("./layout.js").LayoutNode[]} nodes
 * @param {import("./order.js").Edge[]} edges
 * @param {{ framed: boolean, labelled: number[] }} how
 * @param {AbortSignal} signal
 * @returns {Promise<import("./layout.js").Layout>} never settles once the signal has fired
 */
export function layoutOf(nodes, edges, how, signal) {
  const layoutWorker = (worker ??= new Worker(new URL("./worker.js", import.meta.url), { type: "module" }));
  const id = (lastId += 1);
  return new Promise((resolve, reject) => {
    const stop = new AbortController();
    signal.addEventListener("abort", () => stop.abort(), { once: true });
    layoutWorker.addEventListener(
      "message",
      ({ data }) => {
        if (data.id !== id) return;
        stop.abort();
        resolve(data.layout);
      },
      { signal: stop.signal },
    );
    layoutWorker.addEventListener("error", (event) => reject(new Error(`the layout failed: ${event.message}`)), { signal: stop.signal });
    layoutWorker.postMessage({ id, nodes, edges, how });
  });
}
