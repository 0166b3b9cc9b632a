// @ts-check
/** The HTTP API of the gateway. Every failure is an `ApiError` that says what happened. */

/**
 * @typedef {{ code: string, path: string, message: string, hint?: string }} Fault
 * @typedef {{ type?: string, title: string, status: number, detail?: string, code?: string, errors?: Fault[] }} Problem
 * @typedef {Record<string, string | number | boolean | null | undefined>} Query
 */

/** The API refused, or could not be reached (`status` 0). */
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
 * @param {Query} [query] what is null or empty is left out
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
   * @param {{ key: () => string | null, onUnauthorized: () => void }} access `key`: what the user signed in with.
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
    return (await this.#ask(address(path, query), { signal })).json();
  }

  /**
   * @param {string} path
   * @param {unknown} [body] what is no string is sent as JSON
   * @param {{ type?: string, query?: Query }} [how]
   * @returns {Promise<any>}
   */
  async post(path, body, { type = "application/json", query } = {}) {
    const text = body === undefined || typeof body === "string" ? body : JSON.stringify(body);
    /** @type {Record<string, string>} */
    const headers = text === undefined ? {} : { "content-type": type };
    const answer = await this.#ask(address(path, query), { method: "POST", headers, body: text });
    const said = await answer.text();
    return said ? JSON.parse(said) : null;
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
    return this.#ask(address(path, query), { headers, signal, cache: "no-store" });
  }

  /** @param {URL} url @param {RequestInit} options */
  async #ask(url, options) {
    const key = this.#key();
    const headers = { accept: "application/json", ...options.headers };
    const signed = key === null ? headers : { ...headers, authorization: `Bearer ${key}` };
    let answer;
    try {
      answer = await fetch(url, { ...options, headers: signed });
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new ApiError(UNREACHABLE);
    }
    if (answer.ok) return answer;
    if (answer.status === 401) this.#onUnauthorized();
    throw new ApiError(await problemOf(answer));
  }
}

/** @param {Response} answer @returns {Promise<Problem>} */
async function problemOf(answer) {
  const plain = { title: answer.statusText || `Status ${answer.status}`, status: answer.status };
  try {
    const said = await answer.json();
    return typeof said === "object" && said !== null ? { ...plain, ...said, status: answer.status } : plain;
  } catch {
    return plain;
  }
}

/** Whether an error is only that the question was withdrawn. @param {unknown} error */
export const isAbort = (error) => error instanceof DOMException && error.name === "AbortError";
