// @ts-check
/** Computes layouts away from the page, so that it stays quick: {ticket, nodes, edges, framed} in, {ticket, layout} out. */

import { layout } from "./layout.js";

addEventListener("message", ({ data }) => {
  postMessage({ ticket: data.ticket, layout: layout(data.nodes, data.edges, { framed: data.framed }) });
});
