// @ts-check
/** Web worker that computes layouts, so that the page stays responsive: {id, nodes, edges, how} in, {id, layout} out. */

import { layout } from "./layout.js";

addEventListener("message", ({ data }) => {
  postMessage({ id: data.id, layout: layout(data.nodes, data.edges, data.how) });
});
