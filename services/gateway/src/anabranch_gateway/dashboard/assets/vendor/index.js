// @ts-check
/** The only module that imports the libraries. `html` renders markup without a build step. */

import { h } from "./preact.js";
import htm from "./htm.js";

export { createContext, h, render } from "./preact.js";
export { useCallback, useContext, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./hooks.js";

/** @type {(strings: TemplateStringsArray, ...values: any[]) => any} */
export const html = htm.bind(h);
