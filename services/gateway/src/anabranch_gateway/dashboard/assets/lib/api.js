// @ts-check
/** Client of the gateway's HTTP API. Every failure is an `ApiError` with a problem document. */

/**
 * @typedef {{ code: string, path: string, message: string, hint?: string }} RequestError
 * @typedef {{ type?: string, title: string, status: number, detail?: string, code?: string, errors?: RequestError[] }} Problem
 * @typedef {Record<string, string | number | boolean | null | undefined>} Query
 */

/** The API refused the call, or could not be reached (`status` 0). */
export class ApiError extends Error {
  /** @param {Problem} problem */
  constructor(problem) {
    super(problem.detail || problem.title);
    this.name = "ApiError";
    this.problem = problem;
    this.status = problem.status;
  }
}

const UNREACHABLE = {
  title: "The gateway does not respond",
  status: 0,
  detail: "It may be restarting. The dashboard retries automatically.",
};

/**
 * @param {string} path without the leading slash
 * @param {Query} [query] null and empty values are omitted
 */
export function address(path, query = {}) {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, String(value));
  }
  return url;
}

/** A path of ids, each escaped. @param {...(string | number)} parts */
export const pathOf = (...parts) => parts.map((part) => encodeURIComponent(String(part))).join("/");

export class Api {
  #key;
  #onUnauthorized;

  /**
   * @param {{ key: () => string | null, onUnauthorized: () => void }} access `key`: returns the API key of the user, if any.
   */
  constructor({ key, onUnauthorized }) {
    this.#key = key;
    this.#onUnauthorized = onUnauthorized;
  }

  /**
   * @param {string} path
   * @param {Query} [query]
   * @param {AbortSignal} [signal]
   * @returns {Promise<any>}
   */
  async get(path, query, signal) {
    return (await this.#send(address(path, query), { signal })).json();
  }

  /**
   * @param {string} path
   * @param {unknown} [body] anything but a string is sent as JSON
   * @param {{ type?: string, query?: Query }} [how]
   * @returns {Promise<any>}
   */
  async post(path, body, { type = "application/json", query } = {}) {
    const text = body === undefined || typeof body === "string" ? body : JSON.stringify(body);
    /** @type {Record<string, string>} */
    const headers = text === undefined ? {} : { "content-type": type };
    const response = await this.#send(address(path, query), { method: "POST", headers, body: text });
    const content = await response.text();
    return content ? JSON.parse(content) : null;
  }

  /**
   * An open stream of Server-Sent Events.
   * @param {string} path
   * @param {Query} query
   * @param {string | null} after resumes after this message
   * @param {AbortSignal} signal
   */
  async stream(path, query, after, signal) {
    const headers = { accept: "text/event-stream", ...(after === null ? {} : { "last-event-id": after }) };
    return this.#send(address(path, query), { headers, signal, cache: "no-store" });
  }

  /** @param {URL} url @param {RequestInit} options */
  async #send(url, options) {
    const key = this.#key();
    const headers = { accept: "application/json", ...options.headers };
    const signed = key === null ? headers : { ...headers, authorization: `Bearer ${key}` };
    let response;
    try {
      response = await fetch(url, { ...options, headers: signed });
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new ApiError(UNREACHABLE);
    }
    if (response.ok) return response;
    if (response.status === 401) this.#onUnauthorized();
    throw new ApiError(await problemOf(response));
  }
}

/** @param {Response} response @returns {Promise<Problem>} */
async function problemOf(response) {
  const plain = { title: response.statusText || `Status ${response.status}`, status: response.status };
  try {
    const problem = await response.json();
    return typeof problem === "object" && problem !== null ? { ...plain, ...problem, status: response.status } : plain;
  } catch {
    return plain; // a proxy's error page is not a problem document
  }
}

/** True if an error only means that the caller has cancelled the request. @param {unknown} error */
export const isAbort = (error) => error instanceof DOMException && error.name === "AbortError";
