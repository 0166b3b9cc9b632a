// @ts-check
/** What the dashboard takes from its libraries, in one place; `html` writes markup without a build step. */

import { h } from "./preact.js";
import htm from "./htm.js";

export { createContext, h, render } from "./preact.js";
export { useCallback, useContext, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./hooks.js";

/** @type {(strings: TemplateStringsArray, ...values: any[]) => any} */
export const html = htm.bind(h);
